// Threads that stay: a job is a sequence of phases, each a number of units that whichever thread is free takes.
//
// Nobody waits for a thread, only for units that were taken: a thread that the system has put aside between two units holds
// nothing up, and finds, when it runs again, which phase the others have reached.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace quantmill::infer {

class Pool {
  public:
    explicit Pool(int threads);  // the caller's among them
    ~Pool();
    Pool(const Pool &) = delete;
    Pool &operator=(const Pool &) = delete;

    int threads() const { return threads_; }

    // job(thread) in the caller, which is thread 0, and in every other that comes in time; returns when all units are done. A late
    // thread may still walk through `job`'s copy when it finds nothing left to take: outside of units a job refers to nothing that
    // does not outlive the pool.
    void run(std::function<void(int)> job);

    // Within a job, the same calls in every thread: work(i) once for each i below `count`, in any thread, `size` at a time or more;
    // returns when all are done.
    template <class Work>
    void share(int thread, std::int64_t count, Work work, std::int64_t size = 1) {
        if (count <= 0) return;
        size = std::max(size, (count + MOST - 1) / MOST);
        const std::uint32_t units = std::uint32_t((count + size - 1) / size), phase = ++places_[std::size_t(thread)].phase;
        for (std::uint32_t unit; take(phase, units, unit);) {
            const std::int64_t end = std::min(count, (unit + 1) * size);
            for (std::int64_t i = unit * size; i < end; ++i) work(i);
            finish(units);
        }
        wait(phase, units);
    }

  private:
    static constexpr std::int64_t MOST = 0xffff;  // units of a phase

    // What one thread writes keeps a cache line's distance from what others do.
    struct Place {
        std::uint32_t phase = 0;  // the one a thread is in, or was in last
        std::uint8_t room[60];
    };
    struct Reached {
        std::uint8_t before[56];
        std::atomic<std::uint64_t> word{0};
        std::uint8_t behind[56];
    };

    bool take(std::uint32_t phase, std::uint32_t units, std::uint32_t &unit);
    void finish(std::uint32_t units);
    bool passed(std::uint32_t phase, std::uint32_t units) const;
    void wait(std::uint32_t phase, std::uint32_t units);
    void serve(int thread);

    const int threads_;
    std::vector<Place> places_;
    // The phase that was reached, modulo 2^32, and of its units how many are taken (16 bits) and how many are done (16 bits).
    Reached reached_;
    std::atomic<std::uint32_t> started_{0};  // jobs
    std::atomic<int> asleep_{0};             // threads that wait for a phase's end
    bool over_ = false;
    std::shared_ptr<const std::function<void(int)>> job_;
    std::uint32_t before_ = 0;  // the phase before the job's first
    std::mutex mutex_;          // of the three above
    std::condition_variable jobs_, ends_;
    std::vector<std::thread> workers_;
};

}  // namespace quantmill::infer
