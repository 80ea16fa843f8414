#include "infer/phase_pool.h"

#include <chrono>

namespace quantmill::infer {

// A token's work is hundreds of short phases: sleeping between them would cost more than they do, and looking for longer than it
// takes to fall asleep and be woken would take the processor from whoever has work for it.
constexpr std::chrono::microseconds LOOKING{50};
constexpr int LOOKS = 32;  // between two looks at the clock

static void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Looks whether `there()` for as long as that may pay; false when it was not.
template <class There>
static bool look_for(There there) {
    std::chrono::steady_clock::time_point end{};
    for (;;) {
        for (int i = 0; i < LOOKS; ++i) {
            if (there()) return true;
            relax();
        }
        const auto now = std::chrono::steady_clock::now();
        if (end == std::chrono::steady_clock::time_point{}) end = now + LOOKING;
        else if (now > end) return false;
    }
}

static std::uint32_t phase_of(std::uint64_t word) { return std::uint32_t(word >> 32); }
static std::uint32_t taken_of(std::uint64_t word) { return std::uint32_t(word >> 16) & 0xffff; }
static std::uint32_t done_of(std::uint64_t word) { return std::uint32_t(word) & 0xffff; }

Pool::Pool(int threads) : threads_(threads), places_(std::size_t(threads)) {
    for (int thread = 1; thread < threads; ++thread) workers_.emplace_back([this, thread] { serve(thread); });
}

Pool::~Pool() {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        over_ = true;
        started_.fetch_add(1);
    }
    jobs_.notify_all();
    for (std::thread &worker : workers_) worker.join();
}

void Pool::run(std::function<void(int)> job) {
    if (threads_ == 1) return job(0);
    const auto shared = std::make_shared<const std::function<void(int)>>(std::move(job));
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        job_ = shared;
        before_ = places_[0].phase;
        started_.fetch_add(1, std::memory_order_release);
    }
    jobs_.notify_all();
    (*shared)(0);
}

// Only a phase's first unit is taken from the word of the phase before, all of whose units are done: a thread comes here only
// behind that phase's wait().
bool Pool::take(std::uint32_t phase, std::uint32_t units, std::uint32_t &unit) {
    std::uint64_t word = reached_.word.load(std::memory_order_acquire);
    for (;;) {
        const std::int32_t ahead = std::int32_t(phase_of(word) - phase);
        if (ahead > 0) return false;
        unit = ahead < 0 ? 0 : taken_of(word);
        if (unit == units) return false;
        const std::uint64_t next = ahead < 0 ? std::uint64_t(phase) << 32 | 1 << 16 : word + (1 << 16);
        if (reached_.word.compare_exchange_weak(word, next, std::memory_order_acq_rel, std::memory_order_acquire)) return true;
    }
}

void Pool::finish(std::uint32_t units) {
    const std::uint64_t word = reached_.word.fetch_add(1);
    if (done_of(word) + 1 != units || asleep_.load() == 0) return;
    { const std::lock_guard<std::mutex> lock(mutex_); }  // who is about to sleep has looked, and sleeps
    ends_.notify_all();
}

bool Pool::passed(std::uint32_t phase, std::uint32_t units) const {
    const std::uint64_t word = reached_.word.load();
    return phase_of(word) != phase || done_of(word) == units;
}

void Pool::wait(std::uint32_t phase, std::uint32_t units) {
    const auto there = [&] { return passed(phase, units); };
    if (look_for(there)) return;
    std::unique_lock<std::mutex> lock(mutex_);
    asleep_.fetch_add(1);
    ends_.wait(lock, there);
    asleep_.fetch_sub(1);
}

void Pool::serve(int thread) {
    for (std::uint32_t seen = 0;;) {
        const auto there = [&] { return started_.load(std::memory_order_acquire) != seen; };
        look_for(there);
        std::shared_ptr<const std::function<void(int)>> job;
        {
            std::unique_lock<std::mutex> lock(mutex_);
            jobs_.wait(lock, there);
            if (over_) return;
            seen = started_.load(std::memory_order_relaxed);
            job = job_;
            places_[std::size_t(thread)].phase = before_;
        }
        (*job)(thread);
    }
}

}  // namespace quantmill::infer
