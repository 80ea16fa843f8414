// What the binding files of the forward pass share: arguments of a given shape.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <optional>

#include "bind/buffer.h"

namespace quantmill {

void bind_forward(nb::module_ &m);
void bind_attention(nb::module_ &m);
void bind_matmul(nb::module_ &m);
void bind_rows(nb::module_ &m);
void bind_routing(nb::module_ &m);
void bind_recurrent(nb::module_ &m);

inline const Forward &forward() { return *current_level().forward; }

// Rows of n elements worth a thread.
inline std::int64_t least_rows(std::int64_t n) { return std::max<std::int64_t>(1, 16384 / std::max<std::int64_t>(1, n)); }

// An argument that is float32 of a shape; -1 leaves an axis free.
struct Floats : Buffer {
    Floats(nb::handle object, const char *name, std::initializer_list<std::int64_t> shape, bool writable = false)
        : Buffer(object, name, "f", "float32", int(shape.size()), writable) {
        check(*this, name, shape);
    }
    static void check(const Buffer &buffer, const char *name, std::initializer_list<std::int64_t> shape) {
        int axis = 0;
        for (const std::int64_t wanted : shape) {
            if (wanted >= 0 && buffer.size(axis) != wanted) {
                quantmill::fail(std::string(name) + " must have " + std::to_string(wanted) + " in dimension " + std::to_string(axis) + ", not " +
                     std::to_string(buffer.size(axis)));
            }
            ++axis;
        }
    }
    const float *in() const { return data<const float>(); }
    float *out() const { return data<float>(); }
};

// An argument that may be None.
struct OptionalFloats {
    OptionalFloats(nb::handle object, const char *name, std::initializer_list<std::int64_t> shape) : name_(name) {
        if (!object.is_none()) array_.emplace(object, name, shape);
    }
    const float *in() const { return array_ ? array_->in() : nullptr; }
    void apart(const Buffer &out, const char *out_name) const {
        if (array_ && out.overlaps(*array_)) quantmill::fail(std::string(out_name) + " and " + name_ + " must not overlap");
    }

  private:
    const char *name_;
    std::optional<Floats> array_;
};

struct Integers : Buffer {
    Integers(nb::handle object, const char *name, std::initializer_list<std::int64_t> shape, bool writable = false)
        : Buffer(object, name, "i", "int32", int(shape.size()), writable) {
        Floats::check(*this, name, shape);
    }
    const std::int32_t *in() const { return data<const std::int32_t>(); }
    void within(std::int64_t count, const char *name) const {
        for (std::int64_t i = 0; i < size(0); ++i) {
            if (in()[i] < 0 || in()[i] >= count) {
                quantmill::fail(std::string(name) + " must be 0 to " + std::to_string(count - 1) + ", not " + std::to_string(in()[i]));
            }
        }
    }
};

inline void separate(const Buffer &out, const char *out_name, const Buffer &in, const char *name) {
    if (out.overlaps(in)) quantmill::fail(std::string(out_name) + " and " + name + " must not overlap");
}

// For work on single elements: the same array is fine, one that is shifted is not.
inline void same_or_separate(const Buffer &out, const char *out_name, const Buffer &in, const char *name) {
    if (out.data<char>() != in.data<char>()) separate(out, out_name, in, name);
}

// How many dimensions an argument has that may be of several shapes.
inline int dimensions_of(nb::handle object, const char *name) {
    Py_buffer probe;
    if (PyObject_GetBuffer(object.ptr(), &probe, PyBUF_SIMPLE | PyBUF_ND) != 0) {
        PyErr_Clear();
        fail(std::string(name) + " must be a C-contiguous array of float32");
    }
    const int ndim = probe.ndim;
    PyBuffer_Release(&probe);
    return ndim;
}

// How many sequences so many rows are.
inline std::int64_t checked_sequence(std::int64_t rows, std::int64_t sequence) {
    if (sequence < 1 || rows % sequence) {
        fail(std::to_string(rows) + " rows are not whole sequences of " + std::to_string(sequence));
    }
    return rows / sequence;
}

}  // namespace quantmill
