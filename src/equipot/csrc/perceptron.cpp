// The C entry points of the perceptron: checks, blocks of rows, and the sums over rows that are the gradients of the weights.
#include "perceptron.hpp"

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "atoms.hpp"
#include "dispatch.hpp"
#include "linear.hpp"
#include "parallel.hpp"

namespace {

using equipot::PerceptronJob;

// Multiplications below which a second thread costs more than it saves.
constexpr int64_t small_work = 300000;
constexpr int64_t task_columns = 64;  // of a sum over rows

int check(const equipot_perceptron* net, int64_t n_rows) {
  constexpr int64_t widest = int64_t{1} << 24;
  if (!net || net->n_layers < 2 || !net->widths || !net->factors || n_rows < 0) return EQUIPOT_BAD_ARGUMENT;
  if (net->activation != EQUIPOT_SILU && net->activation != EQUIPOT_TANH) return EQUIPOT_BAD_ARGUMENT;
  for (int64_t i = 0; i <= net->n_layers; ++i)
    if (net->widths[i] < 1 || net->widths[i] > widest) return EQUIPOT_BAD_ARGUMENT;
  return EQUIPOT_OK;
}

// Columns of one layer's sum over one chunk of rows.
struct SumTask {
  int64_t layer, first, last, chunk;
};

template <class T>
struct Call {
  PerceptronJob<T> job{};
  typename equipot::Perceptron<T>::Kernel* kernel = nullptr;
  const equipot::Linear<T>* linear = nullptr;
  int n_threads = 1;
  int64_t parts = 1, n_weights = 0;  // parts as of PerceptronJob
  std::vector<int64_t> start, w_start;
  std::vector<const T*> turned;
  std::unique_ptr<T[]> work, turned_work, sums;
  equipot::AtomGroups rows;
  std::vector<SumTask> tasks;
  T* const* gw = nullptr;

  int64_t n_chunks() const { return static_cast<int64_t>(rows.chunks.size()); }
};

template <class T>
std::unique_ptr<T[]> uninitialised(int64_t n) { return std::unique_ptr<T[]>(new T[static_cast<size_t>(std::max<int64_t>(n, 1))]); }

// The call but for its arrays: where layers begin, room for left, right and scratch.
template <class T>
int prepare(Call<T>& call, const equipot_perceptron* net, int64_t n_rows, int n_threads, int64_t parts, bool with_right, bool with_scratch) {
  if (const int status = check(net, n_rows)) return status;
  call.linear = equipot::active_kernels().linear<T>();
  call.start.assign(net->n_layers, 0), call.w_start.assign(1, 0);
  int64_t hidden = 0;
  for (int64_t i = 0; i < net->n_layers; ++i) {
    if (i) call.start[i] = hidden, hidden += net->widths[i];
    call.w_start.push_back(call.w_start.back() + net->widths[i] * net->widths[i + 1]);
  }
  call.n_weights = call.w_start.back(), call.parts = parts;
  call.n_threads = n_rows * call.n_weights < small_work ? 1 : n_threads;
  PerceptronJob<T>& job = call.job;
  job.net = net, job.start = call.start.data(), job.n_rows = n_rows, job.n_hidden = hidden;
  const int64_t left = n_rows * job.left_stride(parts), right = with_right ? n_rows * parts * hidden : 0;
  call.work = uninitialised<T>(left + right + (with_scratch ? n_rows * hidden : 0));
  job.left = call.work.get(), job.right = job.left + left, job.scratch = job.right + right;
  return EQUIPOT_OK;
}

// The transposes of W_i for i >= first, which pulls go through.
template <class T>
void turn(Call<T>& call, int64_t first, const T* const* w) {
  const int64_t n = call.job.n_layers();
  call.turned_work = uninitialised<T>(call.n_weights - call.w_start[first]);
  call.turned.assign(n, nullptr);
  for (int64_t i = first; i < n; ++i) {
    T* to = call.turned_work.get() + call.w_start[i] - call.w_start[first];
    call.linear->transpose(w[i], call.job.width(i), call.job.width(i + 1), to);
    call.turned[i] = to;
  }
  call.job.turned = call.turned.data();
}

template <class T>
void run_rows(const void* data, int64_t i) {
  const auto& call = *static_cast<const Call<T>*>(data);
  call.kernel(call.job, i * equipot::perceptron_rows, std::min((i + 1) * equipot::perceptron_rows, call.job.n_rows));
}

// Layer i of gW or dW: a_i^T d_{i+1}, in the double backward v_i^T d_{i+1} + a_i^T e_{i+1}, of which the last layer has only the first.
template <class T>
void run_sum(const void* data, int64_t number) {
  const auto& call = *static_cast<const Call<T>*>(data);
  const PerceptronJob<T>& job = call.job;
  const SumTask& task = call.tasks[number];
  const int64_t i = task.layer, width = job.width(i + 1);
  const bool last = i + 1 == job.n_layers();
  const equipot::Rows<const T> x{job.left + job.left_start(call.parts, i), job.left_stride(call.parts), job.width(i)};
  const equipot::Rows<const T> g = last ? equipot::Rows<const T>{job.g, width, width}
                                        : equipot::Rows<const T>{job.right + call.parts * job.start[i + 1], call.parts * job.n_hidden, width};
  const equipot::Chunk& chunk = call.rows.chunks[task.chunk];
  T* to = call.n_chunks() == 1 ? call.gw[i] : call.sums.get() + task.chunk * call.n_weights + call.w_start[i];
  call.linear->outer(x, g, call.rows.order.data() + chunk.begin, chunk.end - chunk.begin, last ? 1 : call.parts, to, task.first, task.last);
}

template <class T>
int finish(Call<T>& call, typename equipot::Perceptron<T>::Kernel* kernel, T* const* gw) {
  const PerceptronJob<T>& job = call.job;
  call.kernel = kernel, call.gw = gw;
  equipot::parallel_for((job.n_rows + equipot::perceptron_rows - 1) / equipot::perceptron_rows, call.n_threads, run_rows<T>, &call);
  if (!gw) return EQUIPOT_OK;
  const int64_t n = job.n_layers();
  if (!job.n_rows) {
    for (int64_t i = 0; i < n; ++i) std::memset(gw[i], 0, sizeof(T) * static_cast<size_t>(job.width(i) * job.width(i + 1)));
    return EQUIPOT_OK;
  }
  equipot::group_atoms(job.n_rows, 1, nullptr, std::max<int64_t>(equipot::summing_chunk(job.n_rows), 1024), call.rows);
  if (call.n_chunks() > 1) call.sums = uninitialised<T>(call.n_chunks() * call.n_weights);
  for (int64_t c = 0; c < call.n_chunks(); ++c)
    for (int64_t i = n - 1; i >= 0; --i)
      for (int64_t o = 0; o < job.width(i + 1); o += task_columns) call.tasks.push_back({i, o, std::min(o + task_columns, job.width(i + 1)), c});
  equipot::parallel_for(static_cast<int64_t>(call.tasks.size()), call.n_threads, run_sum<T>, &call);
  if (call.n_chunks() > 1)
    for (int64_t i = 0; i < n; ++i)
      call.linear->sum_parts(call.sums.get() + call.w_start[i], call.n_chunks(), call.n_weights, job.width(i) * job.width(i + 1), gw[i]);
  return EQUIPOT_OK;
}

template <class T>
int forward(const equipot_perceptron* net, int64_t n_rows, int n_threads, const T* x, const T* const* w, T* z, T* out) try {
  Call<T> call;
  if (const int status = prepare(call, net, n_rows, n_threads, 1, false, false)) return status;
  if (!n_rows) return EQUIPOT_OK;
  if (!x || !w || !z || !out) return EQUIPOT_BAD_ARGUMENT;
  call.job.x = x, call.job.w = w, call.job.z_to = z, call.job.to = out;
  return finish<T>(call, equipot::active_kernels().perceptron<T>()->forward, nullptr);
} catch (const std::bad_alloc&) {
  return EQUIPOT_OUT_OF_MEMORY;
}

template <class T>
int backward(const equipot_perceptron* net, int64_t n_rows, int n_threads, const T* g, const T* x, const T* z, const T* const* w, T* p, T* gx,
             T* const* gw) try {
  Call<T> call;
  if (const int status = prepare(call, net, n_rows, n_threads, 1, true, false)) return status;
  if (!w || (n_rows && (!g || !x || !z || !p))) return EQUIPOT_BAD_ARGUMENT;
  turn(call, gx ? 0 : 1, w);
  PerceptronJob<T>& job = call.job;
  job.g = g, job.x = x, job.z = z, job.w = w, job.p_to = p, job.gx = gx, job.weights = gw != nullptr;
  return finish<T>(call, equipot::active_kernels().perceptron<T>()->backward, gw);
} catch (const std::bad_alloc&) {
  return EQUIPOT_OUT_OF_MEMORY;
}

template <class T>
int double_backward(const equipot_perceptron* net, int64_t n_rows, int n_threads, const T* v, const T* g, const T* x, const T* z, const T* p,
                    const T* const* w, T* dg, T* dx, T* const* dw) try {
  Call<T> call;
  if (const int status = prepare(call, net, n_rows, n_threads, 2, true, true)) return status;
  if (!w || (n_rows && (!v || !g || !x || !z || !p))) return EQUIPOT_BAD_ARGUMENT;
  turn(call, dx ? 0 : 1, w);
  PerceptronJob<T>& job = call.job;
  job.v = v, job.g = g, job.x = x, job.z = z, job.p = p, job.w = w, job.to = dg, job.gx = dx, job.weights = dw != nullptr;
  return finish<T>(call, equipot::active_kernels().perceptron<T>()->double_backward, dw);
} catch (const std::bad_alloc&) {
  return EQUIPOT_OUT_OF_MEMORY;
}

}  // namespace

#define EQUIPOT_DEFINE(T, suffix)                                                                                                          \
  int equipot_perceptron_##suffix(const equipot_perceptron* net, int64_t n_rows, int n_threads, const T* x, const T* const* w, T* z,       \
                                  T* out) {                                                                                                \
    return forward<T>(net, n_rows, n_threads, x, w, z, out);                                                                               \
  }                                                                                                                                        \
  int equipot_perceptron_backward_##suffix(const equipot_perceptron* net, int64_t n_rows, int n_threads, const T* g, const T* x,           \
                                           const T* z, const T* const* w, T* p, T* gx, T* const* gw) {                                     \
    return backward<T>(net, n_rows, n_threads, g, x, z, w, p, gx, gw);                                                                     \
  }                                                                                                                                        \
  int equipot_perceptron_double_backward_##suffix(const equipot_perceptron* net, int64_t n_rows, int n_threads, const T* v, const T* g,    \
                                                  const T* x, const T* z, const T* p, const T* const* w, T* dg, T* dx, T* const* dw) {     \
    return double_backward<T>(net, n_rows, n_threads, v, g, x, z, p, w, dg, dx, dw);                                                       \
  }
EQUIPOT_DEFINE(float, f32)
EQUIPOT_DEFINE(double, f64)
#undef EQUIPOT_DEFINE
