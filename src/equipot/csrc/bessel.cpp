// The C entry points of the radial functions: checks, and tasks of some pairs, whose sums are added in the order of the pairs.
#include "bessel.hpp"

#include <algorithm>

#include "dispatch.hpp"
#include "parallel.hpp"

namespace {

using equipot::bessel_lanes;
using equipot::BesselJob;

constexpr int64_t task_pairs = 512;
// Numbers of e below which a second thread costs more than it saves.
constexpr int64_t small_work = 10000;

int64_t n_tasks(int64_t n_pairs) { return (n_pairs + task_pairs - 1) / task_pairs; }

bool valid(const equipot_bessel* basis, int64_t n_pairs) {
  if (!basis || basis->n_basis < 1 || n_pairs < 0 || !(basis->cutoff > 0)) return false;
  return basis->envelope == EQUIPOT_COSINE || (basis->envelope == EQUIPOT_POLYNOMIAL && basis->p >= 1 && basis->p <= 1000);
}

template <class T>
struct Task {
  BesselJob<T> job;
  typename equipot::Bessel<T>::Kernel* kernel;
  int64_t n_pairs;
};

template <class T>
void run_pairs(const void* data, int64_t i) {
  const auto& task = *static_cast<const Task<T>*>(data);
  BesselJob<T> job = task.job;
  if (job.sums) {
    const int64_t n = job.basis->n_basis * bessel_lanes;
    job.sums += i * n;
    std::fill(job.sums, job.sums + n, T{});
  }
  task.kernel(job, i * task_pairs, std::min((i + 1) * task_pairs, task.n_pairs));
}

// `gw` is null, or what job.sums add up to.
template <class T>
int run(const BesselJob<T>& job, typename equipot::Bessel<T>::Kernel* kernel, int64_t n_pairs, int n_threads, T* gw) {
  if (!valid(job.basis, n_pairs) || (gw && !job.sums && n_pairs)) return EQUIPOT_BAD_ARGUMENT;
  const int64_t n_basis = job.basis->n_basis, n = n_tasks(n_pairs);
  if (n_pairs * n_basis < small_work) n_threads = 1;
  Task<T> task{job, kernel, n_pairs};
  if (!gw) task.job.sums = nullptr;
  equipot::parallel_for(n, n_threads, run_pairs<T>, &task);
  for (int64_t k = 0; gw && k < n_basis; ++k) {
    T total{};
    for (int64_t i = 0; i < n; ++i) {
      T part{};
      for (int j = 0; j < bessel_lanes; ++j) part += job.sums[(i * n_basis + k) * bessel_lanes + j];
      total += part;
    }
    gw[k] = total;
  }
  return EQUIPOT_OK;
}

}  // namespace

int64_t equipot_bessel_work(int64_t n_pairs, int64_t n_basis) { return n_tasks(n_pairs) * n_basis * bessel_lanes; }

#define EQUIPOT_DEFINE(T, suffix)                                                                                                           \
  int equipot_bessel_##suffix(const equipot_bessel* basis, int64_t n_pairs, int n_threads, const T* r, const T* w, T* e) {                  \
    const auto kernel = equipot::active_kernels().bessel<T>()->forward;                                                                     \
    return run<T>({basis, nullptr, nullptr, nullptr, r, w, e, nullptr, nullptr}, kernel, n_pairs, n_threads, nullptr);                      \
  }                                                                                                                                         \
  int equipot_bessel_backward_##suffix(const equipot_bessel* basis, int64_t n_pairs, int n_threads, const T* g, const T* r, const T* w,     \
                                       T* gr, T* gw, T* work) {                                                                             \
    const auto kernel = equipot::active_kernels().bessel<T>()->backward;                                                                    \
    return run<T>({basis, nullptr, nullptr, g, r, w, nullptr, gr, work}, kernel, n_pairs, n_threads, gw);                                   \
  }                                                                                                                                         \
  int equipot_bessel_double_backward_##suffix(const equipot_bessel* basis, int64_t n_pairs, int n_threads, const T* a, const T* b,          \
                                              const T* g, const T* r, const T* w, T* dg, T* dr, T* dw, T* work) {                           \
    const auto kernel = equipot::active_kernels().bessel<T>()->double_backward;                                                             \
    return run<T>({basis, a, b, g, r, w, dg, dr, work}, kernel, n_pairs, n_threads, dw);                                                    \
  }
EQUIPOT_DEFINE(float, f32)
EQUIPOT_DEFINE(double, f64)
#undef EQUIPOT_DEFINE
