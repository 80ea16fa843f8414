// Inference for Python: models that evaluate tokens, and products with one quantized matrix.
#include <nanobind/stl/map.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <map>
#include <vector>

#include "bind/bind_infer.h"
#include "bind/buffer.h"
#include "infer/model.h"

namespace quantmill::infer {

static const Form &form_named(const std::string &type) {
    const Form *form = find_form(type.c_str());
    if (!form) fail("no kernel multiplies weights of type '" + type + "'");
    return *form;
}

static void check_matrix(const Form &form, std::int64_t rows, std::int64_t cols, std::int64_t bytes) {
    const std::int64_t whole = form.block > GROUP ? form.block : GROUP;
    if (rows < 1 || cols < 1 || cols % whole) {
        fail("a matrix of " + std::to_string(rows) + " rows of " + std::to_string(cols) + " weights cannot be multiplied as " +
             form.type + ", whose rows are made of whole " + std::to_string(whole) + " weights");
    }
    if (cols > INT64_MAX / 64 / rows || rows * row_bytes(form, cols) != bytes) {
        fail("data must have the bytes of " + std::to_string(rows) + " rows of " + std::to_string(cols) + " weights as " +
             form.type + ", not " + std::to_string(bytes));
    }
}

static int checked_planes(int bits) {
    if (bits != 8 && bits != 16) fail("activation_bits must be 8 or 16, not " + std::to_string(bits));
    return bits / 8;
}

// An object whose memory a matrix points into stays alive, and mapped, as long as its model.
class Held {
  public:
    explicit Held(nb::handle object) {
        if (PyObject_GetBuffer(object.ptr(), &view_, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) != 0) {
            PyErr_Clear();
            fail("data must be a C-contiguous array of uint8");
        }
        if (std::string(view_.format ? view_.format : "B") != "B" || view_.ndim != 1) {
            PyBuffer_Release(&view_);
            fail("data must be a one-dimensional array of uint8");
        }
    }
    ~Held() {
        const nb::gil_scoped_acquire acquire;
        PyBuffer_Release(&view_);
    }
    Held(const Held &) = delete;
    Held &operator=(const Held &) = delete;
    const std::uint8_t *data() const { return static_cast<const std::uint8_t *>(view_.buf); }
    std::int64_t size() const { return view_.len; }

  private:
    Py_buffer view_;
};

class PyMatrix {
  public:
    PyMatrix(const std::string &type, nb::handle data, std::int64_t rows, std::int64_t cols, bool repack, int threads, int bits)
        : held_(data), planes_(checked_planes(bits)), kernels_(infer_kernels(current_level().name).kernels),
          pool_(checked_threads(threads)) {
        const Form &form = form_named(type);
        check_matrix(form, rows, cols, held_.size());
        matrix_ = make_matrix(kernels_, pool_, form, rows, cols, held_.data(), repack);
    }

    void multiply(nb::handle x, nb::handle out) {
        const Weights &w = matrix_.weights;
        const Buffer from(x, "x", "f", "float32", 2, false), to(out, "out", "f", "float32", 2, true);
        const std::int64_t n = from.size(0);
        if (from.size(1) != w.cols) fail("x must have " + std::to_string(w.cols) + " columns, not " + std::to_string(from.size(1)));
        if (to.size(0) != n || to.size(1) != w.rows) {
            fail("out must have " + std::to_string(n) + " rows of " + std::to_string(w.rows));
        }
        if (from.overlaps(to)) fail("x and out must not overlap");
        if (n == 0) return;
        nb::gil_scoped_release release;
        const bool floats = w.form->scale == Scale::none;
        const Room room(n, w.cols, planes_, floats);
        const Activations a = room.of(n, w.cols, n == 1 || !w.repacked ? 1 : kernels_.tokens, floats ? 0 : planes_);
        std::vector<Memory> buffers;
        for (int i = 0; i < pool_.threads(); ++i) buffers.emplace_back(2 * 4 * ROWS * w.cols);
        const float *source = from.data<const float>();
        float *result = to.data<float>();
        const Memory *buffer = buffers.data();
        const std::int64_t tiles = a.tiles(), panels = w.panels();
        pool_.run([=](int thread) {
            pool_.share(thread, tiles, [=](std::int64_t i) { kernels_.quantize(source, a.cols, a, i, i + 1); });
            pool_.share(thread, (panels + 1) / 2, [=](std::int64_t i) {
                const Weights &w = matrix_.weights;
                const std::int64_t first = 2 * i, last = std::min(panels, first + 2);
                if (!w.repacked) kernels_.multiply_plain(w, a, result, w.rows, false, first, last, buffer[thread].data());
                else if (a.tile == 1) kernels_.multiply_one(w, a, result, false, first, last);
                else kernels_.multiply(w, a, result, w.rows, false, first, last, buffer[thread].data());
            });
        });
    }

    std::int64_t bytes() const {
        const Weights &w = matrix_.weights;
        return w.repacked ? w.panels() * panel_bytes(*w.form, w.cols) : held_.size();
    }

  private:
    Held held_;
    int planes_;
    const InferKernels &kernels_;
    Matrix matrix_;
    Pool pool_;  // the last member, since its threads look at the others until they end
};

// A count of what few models have; 0 where it is not spoken of.
static std::int64_t count_or_none(const std::map<std::string, double> &given, const char *key, double least, double most) {
    const auto found = given.find(key);
    const double value = found == given.end() ? 0 : found->second;
    if (!(value >= least && value <= most)) {
        fail(std::string(key) + " must be from " + std::to_string(std::int64_t(least)) + " to " + std::to_string(std::int64_t(most)));
    }
    return std::int64_t(value);
}

static Compressed compressed_of(const std::map<std::string, double> &given, const Config &config) {
    Compressed z = {};
    z.rank = count_or_none(given, "rank", 0, double(config.head_dim - config.rotated));
    if (!z.rank) return z;
    z.query_rank = count_or_none(given, "query_rank", 0, 1 << 20);
    z.key = count_or_none(given, "head_key", double(config.rotated + GROUP), 4096);
    z.values = count_or_none(given, "head_values", 1, 4096);
    if (config.kv_heads != 1 || z.rank + config.rotated != config.head_dim || z.rank % ROWS || config.halves_apart) {
        fail("compressed attention has one key-value of the rank, a multiple of 16, and the columns that turn, as neighbours");
    }
    return z;
}

static Recurrence recurrence_of(const std::map<std::string, double> &given) {
    const auto count = [&](const char *key, double least, double most) { return count_or_none(given, key, least, most); };
    Recurrence r = {};
    r.kind = decltype(r.kind)(count("recurrence", 0, 3));
    if (r.kind == Recurrence::none) return r;
    r.taps = count("taps", 1, MOST_TAPS);
    if (r.kind == Recurrence::convolution) return r;
    r.inner = count("inner", 32, 1 << 22), r.heads = count("state_heads", 1, 4096);
    r.groups = count("state_groups", 1, double(r.heads));
    r.states = count("states", 16, 4096), r.interleaved = count("interleaved", 0, 1) != 0;
    if (r.heads % r.groups || r.inner % GROUP || r.inner % (r.heads * COLUMNS) || r.states % COLUMNS) {
        fail("heads of a state must be a multiple of its groups, and their columns and states of 16");
    }
    return r;
}

static Config config_of(const std::map<std::string, double> &given) {
    const auto number = [&](const char *key) {
        const auto found = given.find(key);
        if (found == given.end()) fail(std::string("the configuration has no ") + key);
        return found->second;
    };
    const auto count = [&](const char *key, double least, double most) {
        const double value = number(key);
        if (!(value >= least && value <= most)) {
            fail(std::string(key) + " must be from " + std::to_string(std::int64_t(least)) + " to " +
                 std::to_string(std::int64_t(most)) + ", not " + std::to_string(std::int64_t(value)));
        }
        return std::int64_t(value);
    };
    Config c = {};
    c.layers = count("layers", 1, 4096);
    c.width = count("width", 32, 1 << 20);
    c.hidden = count("hidden", 32, 1 << 22);
    c.heads = count("heads", 1, 4096);
    c.kv_heads = count("kv_heads", 1, double(c.heads));
    c.head_dim = count("head_dim", 16, 4096);
    c.vocabulary = count("vocabulary", 1, 1 << 24);
    c.context = count("context", 1, 1 << 24);
    c.rotated = count("rotated", 2, double(c.head_dim));
    c.experts = count("experts", 0, 4096);
    c.experts_used = count("experts_used", c.experts ? 1 : 0, double(c.experts));
    c.expert_hidden = count("expert_hidden", c.experts ? 32 : 0, 1 << 22);
    c.shared_hidden = count("shared_hidden", 0, c.experts ? 1 << 22 : 0);
    if (c.heads % c.kv_heads) fail("heads must be a multiple of kv_heads");
    if (c.experts && (c.width % ROWS || c.expert_hidden % ROWS)) {
        fail("width and expert_hidden of a mixture must be multiples of 16");
    }
    if (c.head_dim % 16 || c.rotated % 2) fail("head_dim must be a multiple of 16 and rotated of 2");
    const auto real = [&](const char *key) { return float(number(key)); };
    const auto truth = [&](const char *key) { return number(key) != 0; };
    c.eps = real("eps"), c.embedding_scale = real("embedding_scale"), c.attention_scale = real("attention_scale");
    c.residual_scale = real("residual_scale"), c.logit_scale = real("logit_scale");
    c.score_cap = real("score_cap"), c.logit_cap = real("logit_cap");
    c.temper_scale = real("temper_scale"), c.temper_step = count("temper_step", 1, 1 << 30);
    c.temper_first = count("temper_first", 0, 1), c.chunked = truth("chunked"), c.shares_before = truth("shares_before");
    c.halves_apart = truth("halves_apart"), c.layer_norm = truth("layer_norm"), c.parallel = truth("parallel");
    c.gated = truth("gated");
    c.attention_normed = truth("attention_normed"), c.feed_normed = truth("feed_normed");
    if (c.parallel && (!c.attention_normed || c.feed_normed)) fail("parallel parts have the norm before attention and no other");
    c.head_norm = Config::HeadNorm(count("head_norm", 0, 2));
    c.gate.kind = decltype(c.gate.kind)(count("activation", 0, 3));
    c.gate.alpha = real("gate_alpha"), c.gate.limit = real("gate_limit");
    c.routing.scoring = Routing::Scoring(count("scoring", 0, 3));
    c.routing.normed = truth("shares_normed"), c.routing.scale = real("shares_scale");
    c.routing.groups = count("groups", 1, double(std::max<std::int64_t>(1, c.experts / 2)));
    c.routing.groups_used = count("groups_used", 1, double(c.routing.groups));
    if (c.experts % c.routing.groups) fail("experts must be a multiple of groups");
    c.recurrence = recurrence_of(given);
    c.compressed = compressed_of(given, c);
    return c;
}

// What differs between layers: numbers by name, one a layer.
static std::vector<Kind> kinds_of(const std::map<std::string, std::vector<double>> &given, const Config &config) {
    const auto numbers = [&](const char *key, double most) {
        const auto found = given.find(key);
        const std::size_t layers = std::size_t(config.layers);
        if (found == given.end() || found->second.size() != layers) fail(std::string(key) + " must have a number for each layer");
        for (const double value : found->second) {
            if (!(value >= 0 && value <= most)) fail(std::string(key) + " must be from 0 to " + std::to_string(std::int64_t(most)));
        }
        return found->second;
    };
    const auto windows = numbers("window", 1 << 24), turns = numbers("turns", 1);
    const auto tempers = numbers("tempers", 1);
    const auto mixtures = numbers("mixture", config.experts ? 1 : 0);
    const bool recurrent = config.recurrence.kind != Recurrence::none;
    const std::vector<double> all(windows.size(), 1), none(windows.size(), 0);  // where nothing else is said
    const auto attends = given.count("attends") ? numbers("attends", 1) : all;
    const auto feeds = given.count("feeds") ? numbers("feeds", 1) : all;
    const auto recurs = given.count("recurs") ? numbers("recurs", recurrent ? 1 : 0) : none;
    std::vector<Kind> kinds;
    for (std::size_t i = 0; i < windows.size(); ++i) {
        if (config.chunked && std::int64_t(windows[i]) % ROWS) fail("a chunk must be a multiple of 16");
        kinds.push_back({std::int64_t(windows[i]), turns[i] != 0, tempers[i] != 0, attends[i] != 0, recurs[i] != 0, feeds[i] != 0,
                         mixtures[i] != 0 && feeds[i] != 0});
    }
    return kinds;
}

class PyModel {
  public:
    PyModel(const std::map<std::string, double> &config, const std::map<std::string, std::vector<double>> &layers, int threads,
            bool repack, int bits)
        : PyModel(config_of(config), layers, threads, repack, bits) {}

    PyModel(const Config &config, const std::map<std::string, std::vector<double>> &layers, int threads, bool repack, int bits)
        : model_(config, kinds_of(layers, config), infer_kernels(current_level().name).kernels, checked_threads(threads), repack,
                 checked_planes(bits)) {}

    void set_matrix(const std::string &name, const std::string &type, nb::handle data, std::int64_t rows, std::int64_t cols) {
        if (ready_) fail("the model is complete; make another for other tensors");
        auto held = std::make_unique<Held>(data);
        if (name == "token_embd") {
            const Kernel *kernel = find_kernel(current_level(), type);
            if (!kernel) fail("no kernel dequantizes '" + type + "'");
            if (cols != model_.config.width || rows != model_.config.vocabulary || cols % kernel->block ||
                rows * (cols / kernel->block * kernel->size) != held->size()) {
                fail("token_embd must have " + std::to_string(model_.config.vocabulary) + " rows of " +
                     std::to_string(model_.config.width) + " weights");
            }
            model_.set_embedding(*kernel, held->data());
            held_.push_back(std::move(held));
            return;
        }
        const Form &form = form_named(type);
        check_matrix(form, rows, cols, held->size());
        Matrix *matrix = model_.matrix(name);
        if (!matrix) fail("a model of this kind has no matrix '" + name + "'");
        {
            nb::gil_scoped_release release;
            *matrix = make_matrix(model_.kernels, model_.pool, form, rows, cols, held->data(), model_.repack);
        }
        if (!model_.repack) held_.push_back(std::move(held));
    }

    void set_vector(const std::string &name, nb::handle data) {
        if (ready_) fail("the model is complete; make another for other tensors");
        const Buffer from(data, "data", "f", "float32", 1, false);
        Vector *vector = model_.vector(name);
        if (!vector) fail("a model of this kind has no vector '" + name + "'");
        vector->assign(from.data<const float>(), from.data<const float>() + from.size(0));
    }

    void evaluate(nb::handle tokens, std::int64_t position, nb::handle logits) {
        if (!ready_) {
            const std::string missing = model_.missing();
            if (!missing.empty()) fail("the tensor " + missing + " is missing or has another shape than the configuration says");
            model_.prepare();
            ready_ = true;
        }
        const Buffer ids(tokens, "tokens", "i", "int32", 1, false), out(logits, "logits", "f", "float32", 2, true);
        const std::int64_t n = ids.size(0), rows = out.size(0);
        if (n < 1) fail("tokens must not be empty");
        if (position < 0 || position > filled_) fail("position must be from 0 to " + std::to_string(filled_) + ", where the cache ends");
        if (model_.config.recurrence.kind != Recurrence::none && position != 0 && position != filled_) {
            fail("position must be 0 or " + std::to_string(filled_) +
                 ": what a model of this kind carries from token to token cannot go back");
        }
        if (n > model_.config.context - position) {
            fail("the context has room for " + std::to_string(model_.config.context) + " tokens, not " + std::to_string(position + n));
        }
        if ((rows != 1 && rows != n) || out.size(1) != model_.config.vocabulary) {
            fail("logits must have 1 or " + std::to_string(n) + " rows of " + std::to_string(model_.config.vocabulary));
        }
        const std::int32_t *from = ids.data<const std::int32_t>();
        for (std::int64_t i = 0; i < n; ++i) {
            if (from[i] < 0 || from[i] >= model_.config.vocabulary) fail("there is no token " + std::to_string(from[i]));
        }
        filled_ = position + n;
        nb::gil_scoped_release release;
        model_.evaluate(from, n, position, out.data<float>(), rows == n);
    }

  private:
    Model model_;
    std::vector<std::unique_ptr<Held>> held_;
    bool ready_ = false;
    std::int64_t filled_ = 0;
};

// Bytes a second that the threads read of memory, which nothing else is done with.
static double read_rate(std::int64_t bytes, int threads) {
    constexpr std::int64_t part = 1 << 20;
    if (bytes < part || bytes > std::int64_t(1) << 40) fail("bytes must be from 1048576 to 2^40, not " + std::to_string(bytes));
    checked_threads(threads);
    nb::gil_scoped_release release;
    const InferKernels &kernels = infer_kernels(current_level().name).kernels;
    const std::int64_t parts = bytes / part;
    const Memory memory(parts * part);
    std::uint8_t *data = memory.data();
    std::atomic<std::int32_t> wanted{0}, *sink = &wanted;
    Pool pool(threads);
    pool.run([=, &pool](int thread) { pool.share(thread, parts, [=](std::int64_t i) { std::memset(data + i * part, 1, part); }); });
    const auto started = std::chrono::steady_clock::now();
    pool.run([=, &pool, &kernels](int thread) {
        pool.share(thread, parts, [&](std::int64_t i) { *sink ^= kernels.read(data + i * part, part); });
    });
    return double(parts * part) / std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
}

static void bind(nb::module_ &m) {
    nb::class_<PyMatrix>(m, "Matrix")
        .def(nb::init<const std::string &, nb::handle, std::int64_t, std::int64_t, bool, int, int>(), nb::arg("type"),
             nb::arg("data"), nb::arg("rows"), nb::arg("cols"), nb::arg("repack") = true, nb::arg("threads") = 1,
             nb::arg("activation_bits") = 16)
        .def("multiply", &PyMatrix::multiply, nb::arg("x"), nb::arg("out"))
        .def_prop_ro("nbytes", &PyMatrix::bytes);
    nb::class_<PyModel>(m, "Model")
        .def(nb::init<const std::map<std::string, double> &, const std::map<std::string, std::vector<double>> &, int, bool, int>(),
             nb::arg("config"), nb::arg("layers"), nb::arg("threads"), nb::arg("repack") = true, nb::arg("activation_bits") = 16)
        .def("set_matrix", &PyModel::set_matrix, nb::arg("name"), nb::arg("type"), nb::arg("data"), nb::arg("rows"), nb::arg("cols"))
        .def("set_vector", &PyModel::set_vector, nb::arg("name"), nb::arg("data"))
        .def("evaluate", &PyModel::evaluate, nb::arg("tokens"), nb::arg("position"), nb::arg("logits"));
    m.def("read_rate", &read_rate, nb::arg("bytes"), nb::arg("threads"));
    m.def("infer_isa", [] { return std::string(infer_kernels(current_level().name).name); });
    m.def("infer_types", [] {
        nb::list names;
        for (const Form *form = forms; form->type; ++form) names.append(form->type);
        return names;
    });
}

}  // namespace quantmill::infer

void quantmill::bind_infer(nb::module_ &m) { infer::bind(m); }
