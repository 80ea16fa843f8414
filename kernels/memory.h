// Aligned memory for packed numbers, on large pages where the system has them.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace quantmill {

class Memory {
  public:
    Memory() = default;
    explicit Memory(std::int64_t bytes) { grow(bytes); }
    ~Memory() { std::free(data_); }
    Memory(const Memory &) = delete;
    Memory &operator=(const Memory &) = delete;

    // At least `bytes` bytes; what they held is lost if there were fewer.
    std::uint8_t *grow(std::int64_t bytes) {
        if (bytes <= size_) return data_;
        std::free(data_);
        data_ = nullptr;
        size_ = 0;
        const std::size_t page = bytes >= 4 * LARGE ? LARGE : 4096, whole = (std::size_t(bytes) + page - 1) / page * page;
        data_ = static_cast<std::uint8_t *>(std::aligned_alloc(page, whole));
        if (!data_) throw std::bad_alloc();
#if defined(__linux__) && defined(MADV_HUGEPAGE)
        if (page == LARGE) madvise(data_, whole, MADV_HUGEPAGE);
#endif
        size_ = std::int64_t(whole);
        return data_;
    }

    std::uint8_t *data() const { return data_; }
    std::int64_t size() const { return size_; }

  private:
    static constexpr std::int64_t LARGE = 1 << 21;
    std::uint8_t *data_ = nullptr;
    std::int64_t size_ = 0;
};

// This thread's memory for the length of a call; the next call finds it warm.
inline Memory &scratch() {
    thread_local Memory memory;
    return memory;
}

}  // namespace quantmill
