// The C entry points of the harmonics: checks, constants, and tasks of some edges.
#include "harmonics.hpp"

#include <algorithm>
#include <cmath>

#include "dispatch.hpp"
#include "parallel.hpp"

namespace {

using equipot::HarmonicsJob;
using equipot::HarmonicTables;

constexpr int64_t task_edges = 256;
// Harmonics below which a second thread costs more than it saves.
constexpr int64_t small_work = 30000;

template <class T>
HarmonicTables<T> make_tables() {
  HarmonicTables<T> t{};
  double diagonal = 1;  // Q_mm² = (2m + 1) (2 - δ_m0) ((2m - 1)!!)² / (2m)!
  for (int m = 0; m <= EQUIPOT_MAX_L; ++m) {
    if (m) diagonal *= (2.0 * m - 1) / (2.0 * m);
    t.diagonal[m] = static_cast<T>(std::sqrt((2 * m + 1) * (m ? 2 : 1) * diagonal));
    for (int l = m + 1; l <= EQUIPOT_MAX_L; ++l) {
      const double both = (l - m) * (l + m);
      t.up[l][m] = static_cast<T>(std::sqrt((2 * l + 1) * (2 * l - 1) / both));
      t.down[l][m] = l < m + 2 ? 0 : static_cast<T>(std::sqrt((2 * l + 1) * (l - 1 - m) * (l - 1 + m) / ((2 * l - 3) * both)));
      t.slope[l][m] = static_cast<T>(std::sqrt((m ? 1.0 : 0.5) * (l + m + 1) * (l - m)));
    }
  }
  return t;
}

template <class T>
struct Task {
  HarmonicsJob<T> job;
  typename equipot::Harmonics<T>::Kernel* kernel;
  int64_t n_edges;
};

template <class T>
void run_edges(const void* data, int64_t i) {
  const auto& task = *static_cast<const Task<T>*>(data);
  task.kernel(task.job, i * task_edges, std::min((i + 1) * task_edges, task.n_edges));
}

template <class T>
int run(HarmonicsJob<T> job, typename equipot::Harmonics<T>::Kernel* kernel, int64_t l_max, int64_t n_edges, int n_threads) {
  if (l_max < 0 || n_edges < 0) return EQUIPOT_BAD_ARGUMENT;
  if (l_max > EQUIPOT_MAX_L) return EQUIPOT_BAD_PATH;
  static const HarmonicTables<T> tables = make_tables<T>();
  job.tables = &tables, job.l_max = static_cast<int>(l_max);
  if (n_edges * (l_max + 1) * (l_max + 1) < small_work) n_threads = 1;
  const Task<T> task{job, kernel, n_edges};
  equipot::parallel_for((n_edges + task_edges - 1) / task_edges, n_threads, run_edges<T>, &task);
  return EQUIPOT_OK;
}

}  // namespace

#define EQUIPOT_DEFINE(T, suffix)                                                                                                          \
  int equipot_harmonics_##suffix(int64_t l_max, int64_t n_edges, int n_threads, const T* v, T* y) {                                        \
    const auto kernel = equipot::active_kernels().harmonics<T>()->forward;                                                                 \
    return run<T>({nullptr, 0, nullptr, nullptr, v, nullptr, y}, kernel, l_max, n_edges, n_threads);                                       \
  }                                                                                                                                        \
  int equipot_harmonics_backward_##suffix(int64_t l_max, int64_t n_edges, int n_threads, const T* g, const T* v, T* gv) {                  \
    const auto kernel = equipot::active_kernels().harmonics<T>()->backward;                                                                \
    return run<T>({nullptr, 0, nullptr, g, v, nullptr, gv}, kernel, l_max, n_edges, n_threads);                                            \
  }                                                                                                                                        \
  int equipot_harmonics_double_backward_##suffix(int64_t l_max, int64_t n_edges, int n_threads, const T* u, const T* g, const T* v, T* dg, \
                                                 T* dv) {                                                                                  \
    const auto kernel = equipot::active_kernels().harmonics<T>()->double_backward;                                                         \
    return run<T>({nullptr, 0, u, g, v, dg, dv}, kernel, l_max, n_edges, n_threads);                                                       \
  }
EQUIPOT_DEFINE(float, f32)
EQUIPOT_DEFINE(double, f64)
#undef EQUIPOT_DEFINE
