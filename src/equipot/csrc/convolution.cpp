// The C entry points of the edge convolution: checks, threads, order of the passes.
#include <algorithm>

#include "dispatch.hpp"
#include "parallel.hpp"

namespace {

using equipot::Convolution;
using equipot::Job;

// Receivers are dealt out in tasks of about this many edges. Not a function of the number of threads: it fixes where blocks of edges begin.
constexpr int64_t task_edges = 128;
constexpr int64_t task_senders = 16;
constexpr int64_t task_pairs = 64;
// Multiplications below which a second thread costs more than it saves.
constexpr int64_t small_work = 1500000;

template <class T>
struct Task {
  const Job<T>* job;
  typename Convolution<T>::Kernel* kernel;
};

bool ascending(const int64_t* start, int64_t n, int64_t end) {
  if (start[0] != 0 || start[n] != end) return false;
  bool ok = true;
  for (int64_t i = 0; i < n; ++i) ok &= start[i] <= start[i + 1];
  return ok;
}

bool within(const int64_t* index, int64_t n, int64_t end) {
  bool ok = true;
  for (int64_t i = 0; i < n; ++i) ok &= static_cast<uint64_t>(index[i]) < static_cast<uint64_t>(end);
  return ok;
}

// Every edge is one of the two of its pair, and every pair's edges say so: each row of a gradient is then written once.
bool each_edge_in_its_pair(const equipot_edges* edges) {
  if (!within(edges->pair_edges, 2 * edges->n_pairs, edges->n_edges)) return false;
  bool ok = true;
  for (int64_t e = 0; e < edges->n_edges; ++e) {
    const int64_t* both = edges->pair_edges + 2 * edges->pair[e];
    ok &= both[0] == e || both[1] == e;
  }
  for (int64_t i = 0; i < 2 * edges->n_pairs; ++i) ok &= edges->pair[edges->pair_edges[i]] == i / 2;
  return ok;
}

int check(const equipot_plan* plan, const equipot_edges* edges, bool by_sender) {
  if (!plan || !edges || edges->n_atoms < 0 || edges->n_edges < 0 || !edges->receiver_start) return EQUIPOT_BAD_ARGUMENT;
  if (edges->n_edges && !edges->sender) return EQUIPOT_BAD_ARGUMENT;
  if (by_sender && (!edges->sender_start || (edges->n_edges && !edges->by_sender))) return EQUIPOT_BAD_ARGUMENT;
  const int64_t n = edges->n_atoms, n_edges = edges->n_edges;
  if (!ascending(edges->receiver_start, n, n_edges) || !within(edges->sender, n_edges, n)) return EQUIPOT_BAD_INDEX;
  if (by_sender && (!ascending(edges->sender_start, n, n_edges) || !within(edges->by_sender, n_edges, n_edges))) return EQUIPOT_BAD_INDEX;
  if (edges->pair) {
    if (edges->n_pairs < 0 || (edges->n_pairs && !edges->pair_edges)) return EQUIPOT_BAD_ARGUMENT;
    if (!within(edges->pair, n_edges, edges->n_pairs) || !each_edge_in_its_pair(edges)) return EQUIPOT_BAD_INDEX;
  }
  return EQUIPOT_OK;
}

// The receivers whose first edge lies in [i * task_edges, (i + 1) * task_edges).
template <class T>
void run_receivers(const void* data, int64_t i) {
  const auto& task = *static_cast<const Task<T>*>(data);
  const auto& edges = *task.job->edges;
  const int64_t *begin = edges.receiver_start, *end = begin + edges.n_atoms;
  const int64_t first = std::lower_bound(begin, end, i * task_edges) - begin;
  const int64_t last = std::lower_bound(begin + first, end, (i + 1) * task_edges) - begin;
  if (first < last) task.kernel(*task.job, first, last);
}

template <class T>
void run_senders(const void* data, int64_t i) {
  const auto& task = *static_cast<const Task<T>*>(data);
  task.kernel(*task.job, i * task_senders, std::min((i + 1) * task_senders, task.job->edges->n_atoms));
}

template <class T>
void run_pairs(const void* data, int64_t i) {
  const auto& task = *static_cast<const Task<T>*>(data);
  task.kernel(*task.job, i * task_pairs, std::min((i + 1) * task_pairs, task.job->edges->n_pairs));
}

// `cost` is the work of an edge in units of a forward edge.
template <class T>
int run(const Job<T>& job, typename Convolution<T>::Kernel* kernel, int n_threads, int64_t cost) {
  const auto& edges = *job.edges;
  if (edges.n_edges * job.plan->edge_work * cost < small_work) n_threads = 1;
  const Task<T> pass{&job, kernel};
  equipot::parallel_for(edges.n_edges / task_edges + 1, n_threads, run_receivers<T>, &pass);
  if (job.gh) {
    const Task<T> gather{&job, equipot::active_kernels().convolution<T>().gather};
    equipot::parallel_for((edges.n_atoms + task_senders - 1) / task_senders, n_threads, run_senders<T>, &gather);
  }
  if (job.gw && edges.pair) {
    const Task<T> fold{&job, equipot::active_kernels().convolution<T>().fold};
    equipot::parallel_for((edges.n_pairs + task_pairs - 1) / task_pairs, n_threads, run_pairs<T>, &fold);
  }
  return EQUIPOT_OK;
}

template <class T>
int forward(const equipot_plan* plan, const equipot_edges* edges, int n_threads, const T* h, const T* y, const T* w, T* out) {
  if (const int status = check(plan, edges, false)) return status;
  if (!h || !out || (edges->n_edges && (!y || !w))) return edges->n_atoms ? EQUIPOT_BAD_ARGUMENT : EQUIPOT_OK;
  Job<T> job{};
  job.plan = plan, job.edges = edges, job.h = h, job.y = y, job.w = w, job.out = out;
  return run(job, equipot::active_kernels().convolution<T>().forward, n_threads, 1);
}

template <class T>
void set_work(Job<T>& job, T* work) {
  job.work = work;
  job.gw_second = job.gh ? work + job.edges->n_edges * job.plan->h_dim : work;
}

template <class T>
int backward(const equipot_plan* plan, const equipot_edges* edges, int n_threads, const T* g, const T* h, const T* y, const T* w, T* gh,
             T* gy, T* gw, T* work) {
  if (const int status = check(plan, edges, gh != nullptr)) return status;
  Job<T> job{};
  job.plan = plan, job.edges = edges, job.g = g, job.h = h, job.y = y, job.w = w;
  job.gh = gh, job.gy = gy, job.gw = gw;
  set_work(job, work);
  return run(job, equipot::active_kernels().convolution<T>().backward, n_threads, 3);
}

template <class T>
int double_backward(const equipot_plan* plan, const equipot_edges* edges, int n_threads, const T* a, const T* b, const T* c, const T* g,
                    const T* h, const T* y, const T* w, T* dg, T* dh, T* dy, T* dw, T* work) {
  if (const int status = check(plan, edges, dh != nullptr)) return status;
  Job<T> job{};
  job.plan = plan, job.edges = edges, job.a = a, job.b = b, job.c = c, job.g = g, job.h = h, job.y = y, job.w = w;
  job.out = dg, job.gh = dh, job.gy = dy, job.gw = dw;
  set_work(job, work);
  return run(job, equipot::active_kernels().convolution<T>().double_backward, n_threads, 6);
}

}  // namespace

#define EQUIPOT_DEFINE(T, suffix)                                                                                                          \
  int equipot_convolution_##suffix(const equipot_plan* plan, const equipot_edges* edges, int n_threads, const T* h, const T* y,            \
                                   const T* w, T* out) {                                                                                   \
    return forward<T>(plan, edges, n_threads, h, y, w, out);                                                                               \
  }                                                                                                                                        \
  int equipot_convolution_backward_##suffix(const equipot_plan* plan, const equipot_edges* edges, int n_threads, const T* g, const T* h,   \
                                            const T* y, const T* w, T* gh, T* gy, T* gw, T* work) {                                        \
    return backward<T>(plan, edges, n_threads, g, h, y, w, gh, gy, gw, work);                                                              \
  }                                                                                                                                        \
  int equipot_convolution_double_backward_##suffix(const equipot_plan* plan, const equipot_edges* edges, int n_threads, const T* a,        \
                                                   const T* b, const T* c, const T* g, const T* h, const T* y, const T* w, T* dg, T* dh,   \
                                                   T* dy, T* dw, T* work) {                                                                \
    return double_backward<T>(plan, edges, n_threads, a, b, c, g, h, y, w, dg, dh, dy, dw, work);                                          \
  }
EQUIPOT_DEFINE(float, f32)
EQUIPOT_DEFINE(double, f64)
#undef EQUIPOT_DEFINE
