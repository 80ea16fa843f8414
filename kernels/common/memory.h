// Aligned memory for packed numbers, on large pages where the system has them. What is large comes from the system and goes back to it
// at once: a heap would keep some of it, how much being a matter of chance, and a forward pass has a limit to stay below.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <new>
#include <utility>

namespace quantmill {

class Memory {
  public:
    Memory() = default;
    explicit Memory(std::int64_t bytes) { grow(bytes); }  // zeros
    ~Memory() { release(); }
    Memory(Memory &&other) noexcept { *this = std::move(other); }
    Memory &operator=(Memory &&other) noexcept {
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        return *this;
    }

    // At least `bytes` bytes; what they held is lost if there were fewer.
    std::uint8_t *grow(std::int64_t bytes) {
        if (bytes <= size_) return data_;
        release();
        const std::size_t page = std::size_t(sysconf(_SC_PAGESIZE)), whole = (std::size_t(bytes) + page - 1) / page * page;
        data_ = mapped(whole, page);
        size_ = std::int64_t(whole);
        return data_;
    }

    std::uint8_t *data() const { return data_; }
    template <class T>
    T *as() const { return reinterpret_cast<T *>(data_); }
    std::int64_t size() const { return size_; }

  private:
    static constexpr std::size_t LARGE = 1 << 21;  // a large page

    void release() {
        if (data_) munmap(data_, std::size_t(size_));
        data_ = nullptr;
        size_ = 0;
    }

    // `whole` bytes, which begin at a large page where they fill one: what is mapped too much before and after goes back.
    static std::uint8_t *mapped(std::size_t whole, std::size_t page) {
        const std::size_t more = whole >= LARGE ? LARGE - page : 0;
        void *const got = mmap(nullptr, whole + more, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (got == MAP_FAILED) throw std::bad_alloc();
        std::uint8_t *const begin = static_cast<std::uint8_t *>(got);
        if (!more) return begin;
        const std::size_t before = (LARGE - reinterpret_cast<std::uintptr_t>(got) % LARGE) % LARGE;
        if (before) munmap(begin, before);
        if (before < more) munmap(begin + before + whole, more - before);
#if defined(MADV_HUGEPAGE)
        madvise(begin + before, whole, MADV_HUGEPAGE);
#endif
        return begin + before;
    }

    std::uint8_t *data_ = nullptr;
    std::int64_t size_ = 0;
};

// This thread's memory for the length of a call; the next call finds it warm.
inline Memory &scratch() {
    thread_local Memory memory;
    return memory;
}

}  // namespace quantmill
