#include "parallel.hpp"

#include <algorithm>
#include <atomic>

#include "equipot_ops.h"

namespace equipot {
namespace {

using GompParallel = void (*)(void (*body)(void*), void* data, unsigned n_threads, unsigned flags);
std::atomic<GompParallel> gomp_parallel{nullptr};

struct Loop {
  std::atomic<int64_t> next{0};
  int64_t n;
  void (*task)(const void*, int64_t);
  const void* data;
};

void run(void* pointer) {
  auto& loop = *static_cast<Loop*>(pointer);
  for (int64_t i; (i = loop.next.fetch_add(1, std::memory_order_relaxed)) < loop.n;) loop.task(loop.data, i);
}

}  // namespace

void parallel_for(int64_t n, int n_threads, void (*task)(const void*, int64_t), const void* data) {
  Loop loop;
  loop.n = n, loop.task = task, loop.data = data;
  const auto start = gomp_parallel.load(std::memory_order_acquire);
  const auto threads = std::min<int64_t>(n_threads, n);
  if (!start || threads <= 1)
    run(&loop);
  else
    start(run, &loop, static_cast<unsigned>(threads), 0);
}

}  // namespace equipot

void equipot_set_parallel(void* gomp_parallel) {
  equipot::gomp_parallel.store(reinterpret_cast<equipot::GompParallel>(gomp_parallel), std::memory_order_release);
}
