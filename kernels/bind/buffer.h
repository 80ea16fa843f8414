// What the binding files share: arguments that are arrays, checked, and the level in use.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <string>

#include "common/levels.h"

namespace quantmill {

namespace nb = nanobind;

// The level whose kernels are called now.
const Level &current_level();

[[noreturn]] inline void fail(const std::string &message) { throw nb::value_error(message.c_str()); }

inline int checked_threads(int threads) {
    if (threads < 1 || threads > 1024) fail("threads must be 1 to 1024, not " + std::to_string(threads));
    return threads;
}

// The current level's kernel of a type; ValueError where there is none.
const Kernel &kernel_named(const std::string &type, bool to_quantize);

// Bytes of `rows` rows of `cols` weights, which the caller compares with what the array has.
std::int64_t quantized_bytes(const Kernel &kernel, std::int64_t rows, std::int64_t cols);

// A C-contiguous buffer of an object, held until the call is over.
class Buffer {
  public:
    Buffer(nb::handle object, const char *name, const char *format, const char *dtype, int ndim, bool writable) {
        const int flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0);
        if (PyObject_GetBuffer(object.ptr(), &view_, flags) != 0) {
            PyErr_Clear();
            throw nb::value_error((std::string(name) + " must be a C-contiguous" + (writable ? " writable" : "") + " array of " +
                                   dtype).c_str());
        }
        if (std::string(view_.format ? view_.format : "B") != format) {
            fail(std::string(name) + " must be an array of " + dtype + ", not of format '" +
                 (view_.format ? view_.format : "B") + "'");
        }
        if (view_.ndim != ndim) {
            fail(std::string(name) + " must have " + std::to_string(ndim) + (ndim == 1 ? " dimension" : " dimensions") + ", not " +
                 std::to_string(view_.ndim));
        }
    }
    ~Buffer() { PyBuffer_Release(&view_); }
    Buffer(const Buffer &) = delete;
    Buffer &operator=(const Buffer &) = delete;

    std::int64_t size(int axis) const { return view_.shape[axis]; }
    template <class T> T *data() const { return static_cast<T *>(view_.buf); }
    bool overlaps(const Buffer &other) const {
        const char *a = data<char>(), *b = other.data<char>();
        return a < b + other.view_.len && b < a + view_.len;
    }

  private:
    // The destructor does not run for an object whose constructor throws.
    [[noreturn]] void fail(const std::string &message) {
        PyBuffer_Release(&view_);
        throw nb::value_error(message.c_str());
    }

    Py_buffer view_;
};

}  // namespace quantmill
