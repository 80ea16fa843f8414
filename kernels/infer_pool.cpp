#include "infer_pool.h"

namespace quantmill::infer {

// A token's work is hundreds of short phases: sleeping between them would cost more than they do. After SPINS looks a thread lets
// others run, and a worker without a job sleeps.
constexpr int SPINS = 4000, YIELDS = 50;

static void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

Pool::Pool(int threads) : threads_(threads) {
    for (int thread = 1; thread < threads; ++thread) workers_.emplace_back([this, thread] { serve(thread); });
}

Pool::~Pool() {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        over_ = true;
        started_.fetch_add(1);
    }
    wake_.notify_all();
    for (std::thread &worker : workers_) worker.join();
}

void Pool::run(const std::function<void(int)> &job) {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        job_ = &job;
        started_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    job(0);
    meet();
}

void Pool::meet() {
    const unsigned round = round_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads_) {
        arrived_.store(0, std::memory_order_relaxed);
        round_.fetch_add(1, std::memory_order_release);
        return;
    }
    for (int spin = 0; round_.load(std::memory_order_acquire) == round; ++spin) {
        if (spin < SPINS) relax();
        else std::this_thread::yield();
    }
}

void Pool::serve(int thread) {
    for (unsigned seen = 0;; ++seen) {
        for (int spin = 0; started_.load(std::memory_order_acquire) == seen && spin < SPINS; ++spin) relax();
        for (int yields = 0; started_.load(std::memory_order_acquire) == seen && yields < YIELDS; ++yields) {
            std::this_thread::yield();
        }
        if (started_.load(std::memory_order_acquire) == seen) {
            std::unique_lock<std::mutex> lock(mutex_);
            wake_.wait(lock, [&] { return started_.load(std::memory_order_acquire) != seen; });
        }
        if (over_) return;
        (*job_)(thread);
        meet();
    }
}

}  // namespace quantmill::infer
