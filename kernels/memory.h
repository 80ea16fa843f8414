// Aligned memory for packed numbers, on large pages where the system has them. What is large comes from the system and goes back to it
// at once: a heap would keep some of it, how much being a matter of chance, and a forward pass has a limit to stay below.
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
    ~Memory() { release(); }
    Memory(const Memory &) = delete;
    Memory &operator=(const Memory &) = delete;

    // At least `bytes` bytes; what they held is lost if there were fewer.
    std::uint8_t *grow(std::int64_t bytes) {
        if (bytes <= size_) return data_;
        release();
        const std::size_t page = bytes >= LARGE ? LARGE : 4096, whole = (std::size_t(bytes) + 4095) / 4096 * 4096;
#if defined(__linux__)
        data_ = mapped(whole, page);
#else
        data_ = static_cast<std::uint8_t *>(std::aligned_alloc(4096, whole));
#endif
        if (!data_) throw std::bad_alloc();
        size_ = std::int64_t(whole);
        return data_;
    }

    std::uint8_t *data() const { return data_; }
    std::int64_t size() const { return size_; }

  private:
    static constexpr std::int64_t LARGE = 1 << 21;

    void release() {
        if (!data_) return;
#if defined(__linux__)
        munmap(data_, std::size_t(size_));
#else
        std::free(data_);
#endif
        data_ = nullptr;
        size_ = 0;
    }

#if defined(__linux__)
    // `whole` bytes that begin at a multiple of `page`: what is mapped too much before and after goes back.
    static std::uint8_t *mapped(std::size_t whole, std::size_t page) {
        const std::size_t more = page == 4096 ? 0 : page;
        void *const got = mmap(nullptr, whole + more, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (got == MAP_FAILED) return nullptr;
        std::uint8_t *const begin = static_cast<std::uint8_t *>(got);
        if (!more) return begin;
        const std::size_t before = (page - reinterpret_cast<std::uintptr_t>(got) % page) % page;
        if (before) munmap(begin, before);
        if (before < more) munmap(begin + before + whole, more - before);
#if defined(MADV_HUGEPAGE)
        madvise(begin + before, whole, MADV_HUGEPAGE);
#endif
        return begin + before;
    }
#endif

    std::uint8_t *data_ = nullptr;
    std::int64_t size_ = 0;
};

// This thread's memory for the length of a call; the next call finds it warm.
inline Memory &scratch() {
    thread_local Memory memory;
    return memory;
}

}  // namespace quantmill
