// A libllama from before b8660 behind the interface of later ones: the parameters of llama_model_quantize were C++
// containers then, and are arrays since. The variable OLD_LIBLLAMA names the library.
#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <unordered_map>
#include <vector>

struct Override {
    int32_t tag;
    char key[128];
    int64_t value[16];
};

struct Pattern {
    const char * name;
    int32_t type;
};

struct OldPattern {
    std::string name;
    int32_t type;
};

struct Vector {
    const char * name;
    const float * data;
    size_t size;
};

struct Params {
    int32_t numbers[4];
    bool choices[6];
    void * imatrix;
    void * overrides;
    void * patterns;
    void * prune;
    char room[256];
};

static std::string folder;

template <typename F> static F * found(const char * name) {
    static void * library = [] {
        const char * path = getenv("OLD_LIBLLAMA");
        void * opened = path ? dlopen(path, RTLD_NOW | RTLD_GLOBAL) : nullptr;
        if (!opened) {
            fprintf(stderr, "OLD_LIBLLAMA: %s\n", path ? dlerror() : "is not set");
            exit(1);
        }
        folder = path;
        folder.resize(folder.rfind('/'));
        return opened;
    }();
    return (F *) dlsym(library, name);
}

extern "C" void llama_backend_init() {
    found<void()>("llama_backend_init")();
    if (auto load = found<void(const char *)>("ggml_backend_load_all_from_path")) {
        load(folder.c_str());
    }
}

extern "C" Params llama_model_quantize_default_params() {
    Params params = found<Params()>("llama_model_quantize_default_params")();
    params.imatrix = params.overrides = params.patterns = params.prune = nullptr;  // the last ones are not in every tag
    return params;
}

extern "C" uint32_t llama_model_quantize(const char * base, const char * out, const Params * given) {
    Params params = *given;
    std::unordered_map<std::string, std::vector<float>> imatrix;
    std::vector<Override> overrides;
    std::vector<OldPattern> patterns;
    std::vector<int> prune;
    if (auto * at = (const Vector *) given->imatrix) {
        for (; at->name; ++at) {
            imatrix[at->name].assign(at->data, at->data + at->size);
        }
        params.imatrix = &imatrix;
    }
    if (auto * at = (const Override *) given->overrides) {
        for (; at->key[0]; ++at) {
            overrides.push_back(*at);
        }
        overrides.push_back(*at);
        params.overrides = &overrides;
    }
    if (auto * at = (const Pattern *) given->patterns) {
        for (; at->name; ++at) {
            patterns.push_back({at->name, at->type});
        }
        params.patterns = &patterns;
    }
    if (auto * at = (const int32_t *) given->prune) {
        for (; *at >= 0; ++at) {
            prune.push_back(*at);
        }
        params.prune = &prune;
    }
    return found<uint32_t(const char *, const char *, const Params *)>("llama_model_quantize")(base, out, &params);
}
