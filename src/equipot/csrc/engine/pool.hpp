// Threads that share the tasks of one call: the engine's own, so that it needs no OpenMP.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace eq {

class Pool {
 public:
  explicit Pool(int n_threads = 1);
  ~Pool();
  int size() const { return n_threads_; }
  void resize(int n_threads);
  // Calls task(i, thread) for i = 0 ... n-1, each once, in no order; thread is below size(). Tasks must not throw.
  void run(int64_t n, const std::function<void(int64_t, int)>& task);

 private:
  struct Shared;
  void start();
  void stop();
  int n_threads_;
  long owner_ = 0;  // the process that started the threads: a forked child has none of them
  std::unique_ptr<Shared> shared_;
};

}  // namespace eq
