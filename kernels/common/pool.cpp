#include "common/pool.h"

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace quantmill {

namespace {

#if defined(__x86_64__)
using State = unsigned;
State current_state() { return _mm_getcsr(); }
void set_state(State state) { _mm_setcsr(state); }
State state_of(Mode mode) { return 0x1f80 | (mode == Mode::flush ? 0x8040 : 0); }  // all masked; FTZ and DAZ
#else
using State = std::uint64_t;
State current_state() {
    State state;
    __asm__ volatile("mrs %0, fpcr" : "=r"(state));
    return state;
}
void set_state(State state) { __asm__ volatile("msr fpcr, %0" ::"r"(state)); }
State state_of(Mode mode) { return mode == Mode::flush ? State(1) << 24 : 0; }  // FZ
#endif

struct Job {
    void (*work)(const void *, std::int64_t);
    const void *context;
    std::int64_t count;
    Mode mode;
    std::atomic<std::int64_t> next{0};
    int helpers = 0;  // at work on it now
    std::condition_variable done;

    void drain() {
        const State before = current_state();
        set_state(state_of(mode));
        for (std::int64_t piece; (piece = next.fetch_add(1)) < count;) work(context, piece);
        set_state(before);
    }
};

struct Pool {
    std::mutex mutex;
    std::condition_variable called;
    std::deque<Job *> wanted;  // a job stands here once for every helper it may still have
    int workers = 0;

    void wait_for_work() {
        std::unique_lock<std::mutex> lock(mutex);
        for (;;) {
            called.wait(lock, [&] { return !wanted.empty(); });
            Job *job = wanted.front();
            wanted.pop_front();
            ++job->helpers;
            lock.unlock();
            job->drain();
            lock.lock();
            if (--job->helpers == 0) job->done.notify_all();
        }
    }

    void run(Job &job, int helpers) {
        {
            std::lock_guard<std::mutex> lock(mutex);
            try {
                for (; workers < helpers; ++workers) std::thread([this] { wait_for_work(); }).detach();
            } catch (const std::system_error &) {
                // The system gives no more threads: those there are do the work.
            }
            for (int i = 0; i < helpers; ++i) wanted.push_back(&job);
        }
        called.notify_all();
        job.drain();
        std::unique_lock<std::mutex> lock(mutex);
        for (auto at = wanted.begin(); at != wanted.end();) at = *at == &job ? wanted.erase(at) : at + 1;
        job.done.wait(lock, [&] { return job.helpers == 0; });
    }
};

// Never destroyed: its threads wait in it until the process ends. A forked child has none of them and makes another.
std::atomic<Pool *> pool{nullptr};

Pool &the_pool() {
    Pool *found = pool.load();
    if (!found) {
        static std::once_flag once;
        std::call_once(once, [] { pthread_atfork(nullptr, nullptr, [] { pool = nullptr; }); });
        Pool *made = new Pool;
        if (pool.compare_exchange_strong(found, made)) return *made;
        delete made;
    }
    return *found;
}

}  // namespace

void share(int threads, std::int64_t count, Mode mode, void (*work)(const void *, std::int64_t), const void *context) {
    Job job;
    job.work = work;
    job.context = context;
    job.count = count;
    job.mode = mode;
    if (threads > count) threads = int(count);
    if (threads > 1) {
        the_pool().run(job, threads - 1);
    } else {
        job.drain();
    }
}

}  // namespace quantmill
