// The C entry points of the gate: checks, and tasks of some atoms.
#include <algorithm>

#include "dispatch.hpp"
#include "gate.hpp"
#include "parallel.hpp"

namespace {

using equipot::GateJob;

constexpr int64_t task_atoms = 32;
// Numbers of a row times atoms below which a second thread costs more than it saves.
constexpr int64_t small_work = 100000;

bool within(int64_t start, int64_t n, int64_t dim) { return start >= 0 && start <= dim && n <= dim - start; }

int check(const equipot_gate_map* map, int64_t n_atoms) {
  constexpr int64_t longest = int64_t{1} << 31;
  if (!map || map->n_blocks < 0 || (map->n_blocks && !map->blocks) || n_atoms < 0) return EQUIPOT_BAD_ARGUMENT;
  if (std::min(map->x_dim, map->y_dim) < 0 || std::max(map->x_dim, map->y_dim) > longest) return EQUIPOT_BAD_ARGUMENT;
  int64_t x = 0, y = 0;
  for (int64_t i = 0; i < map->n_blocks; ++i) {
    const equipot_gate_block& b = map->blocks[i];
    if (b.activation != EQUIPOT_SILU && b.activation != EQUIPOT_TANH) return EQUIPOT_BAD_ARGUMENT;
    if (b.dim < 0 || b.dim > longest || b.n_channels < 1 || b.n_channels > longest) return EQUIPOT_BAD_PATH;
    const int64_t to = std::max<int64_t>(b.dim, 1) * b.n_channels;
    if (!within(b.gate_start, b.n_channels, map->x_dim) || !within(b.y_start, to, map->y_dim)) return EQUIPOT_BAD_PATH;
    if (b.dim && !within(b.x_start, b.dim * b.n_channels, map->x_dim)) return EQUIPOT_BAD_PATH;
    x += (b.dim + 1) * b.n_channels, y += to;
  }
  return x == map->x_dim && y == map->y_dim ? EQUIPOT_OK : EQUIPOT_BAD_PATH;
}

template <class T>
struct Task {
  GateJob<T> job;
  typename equipot::Gate<T>::Kernel* kernel;
  int64_t n_atoms;
};

template <class T>
void run_atoms(const void* data, int64_t i) {
  const auto& task = *static_cast<const Task<T>*>(data);
  task.kernel(task.job, i * task_atoms, std::min((i + 1) * task_atoms, task.n_atoms));
}

template <class T>
int run(const GateJob<T>& job, typename equipot::Gate<T>::Kernel* kernel, int64_t n_atoms, int n_threads) {
  if (const int status = check(job.map, n_atoms)) return status;
  if (n_atoms * job.map->x_dim < small_work) n_threads = 1;
  const Task<T> task{job, kernel, n_atoms};
  equipot::parallel_for((n_atoms + task_atoms - 1) / task_atoms, n_threads, run_atoms<T>, &task);
  return EQUIPOT_OK;
}

}  // namespace

#define EQUIPOT_DEFINE(T, suffix)                                                                                                          \
  int equipot_gate_##suffix(const equipot_gate_map* map, int64_t n_atoms, int n_threads, const T* x, T* y) {                               \
    return run<T>({map, nullptr, nullptr, x, nullptr, y}, equipot::active_kernels().gate<T>()->forward, n_atoms, n_threads);               \
  }                                                                                                                                        \
  int equipot_gate_backward_##suffix(const equipot_gate_map* map, int64_t n_atoms, int n_threads, const T* g, const T* x, T* gx) {         \
    return run<T>({map, nullptr, g, x, nullptr, gx}, equipot::active_kernels().gate<T>()->backward, n_atoms, n_threads);                   \
  }                                                                                                                                        \
  int equipot_gate_double_backward_##suffix(const equipot_gate_map* map, int64_t n_atoms, int n_threads, const T* u, const T* g,           \
                                            const T* x, T* dg, T* dx) {                                                                    \
    return run<T>({map, u, g, x, dg, dx}, equipot::active_kernels().gate<T>()->double_backward, n_atoms, n_threads);                       \
  }
EQUIPOT_DEFINE(float, f32)
EQUIPOT_DEFINE(double, f64)
#undef EQUIPOT_DEFINE
