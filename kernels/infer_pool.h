// Threads that stay: one job is run by all of them at once, and they meet at barriers inside it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
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
    // job(thread) in every thread, 0 being the caller's; returns when all are done.
    void run(const std::function<void(int)> &job);
    // Waits, within a job, until every thread is here.
    void meet();

  private:
    void serve(int thread);

    const int threads_;
    const std::function<void(int)> *job_ = nullptr;
    std::atomic<unsigned> started_{0}, round_{0};
    std::atomic<int> arrived_{0};
    std::atomic<bool> over_{false};
    std::mutex mutex_;
    std::condition_variable wake_;
    std::vector<std::thread> workers_;
};

}  // namespace quantmill::infer
