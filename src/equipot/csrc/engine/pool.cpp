#include "pool.hpp"

#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace eq {

struct Pool::Shared {
  std::mutex mutex;
  std::condition_variable wake, done;
  std::vector<std::thread> threads;
  const std::function<void(int64_t, int)>* task = nullptr;
  std::atomic<int64_t> next{0};
  int64_t n = 0;
  uint64_t round = 0;
  int working = 0;
  bool leave = false;

  void work(int thread) {
    for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < n;) (*task)(i, thread);
  }

  void serve(int thread) {
    uint64_t seen = 0;
    for (;;) {
      std::unique_lock<std::mutex> lock(mutex);
      wake.wait(lock, [&] { return leave || round != seen; });
      if (leave) return;
      seen = round;
      lock.unlock();
      work(thread);
      lock.lock();
      if (--working == 0) done.notify_one();
    }
  }
};

Pool::Pool(int n_threads) : n_threads_(n_threads) {}
Pool::~Pool() { stop(); }

void Pool::resize(int n_threads) {
  if (n_threads == n_threads_) return;
  stop();
  n_threads_ = n_threads;
}

void Pool::start() {
  shared_ = std::make_unique<Shared>();
  owner_ = static_cast<long>(getpid());
  for (int t = 1; t < n_threads_; ++t) shared_->threads.emplace_back([s = shared_.get(), t] { s->serve(t); });
}

void Pool::stop() {
  if (!shared_) return;
  if (owner_ != static_cast<long>(getpid())) {
    (void)shared_.release();  // the threads and the state of the locks are the parent's
    return;
  }
  {
    std::lock_guard<std::mutex> lock(shared_->mutex);
    shared_->leave = true;
  }
  shared_->wake.notify_all();
  for (auto& thread : shared_->threads) thread.join();
  shared_.reset();
}

void Pool::run(int64_t n, const std::function<void(int64_t, int)>& task) {
  if (n_threads_ == 1 || n <= 1) {
    for (int64_t i = 0; i < n; ++i) task(i, 0);
    return;
  }
  if (shared_ && owner_ != static_cast<long>(getpid())) stop();
  if (!shared_) start();
  Shared& s = *shared_;
  {
    std::lock_guard<std::mutex> lock(s.mutex);
    s.task = &task, s.n = n, s.working = n_threads_ - 1;
    s.next.store(0, std::memory_order_relaxed);
    ++s.round;
  }
  s.wake.notify_all();
  s.work(0);
  std::unique_lock<std::mutex> lock(s.mutex);
  s.done.wait(lock, [&] { return s.working == 0; });
}

}  // namespace eq
