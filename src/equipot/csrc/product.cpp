// The C entry points of the symmetric product: checks, atoms by element, a task per chunk of atoms.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include "atoms.hpp"
#include "dispatch.hpp"
#include "linear.hpp"
#include "parallel.hpp"
#include "product.hpp"

namespace {

using equipot::Chunk;
using equipot::ProductJob;

// Chunks of a pass that does not sum over atoms; of one that does, at least as many atoms, and not more chunks per element than `most_parts`.
constexpr int64_t chunk_atoms = 16;
constexpr int64_t most_parts = 64;
// Multiplications below which a second thread costs more than it saves.
constexpr int64_t small_work = 1500000;

// A thread's scratch, kept for its next task.
class Scratch {
 public:
  ~Scratch() { std::free(memory); }
  void* get(size_t bytes) {
    if (bytes > size) {
      std::free(memory);
      bytes = (bytes + 63) / 64 * 64;
      memory = std::aligned_alloc(64, bytes);
      size = memory ? bytes : 0;
    }
    return memory;
  }

 private:
  void* memory = nullptr;
  size_t size = 0;
};

template <class T>
struct Task {
  ProductJob<T> job;  // of all atoms and elements
  typename equipot::Product<T>::Kernel* kernel;
  equipot::AtomGroups groups;
  std::unique_ptr<T[]> parts;  // of gw, for each chunk
  std::atomic<bool> out_of_memory{false};

  int64_t w_dim() const { return job.plan->n_weights * job.n_channels; }
};

template <class T>
void run_chunk(const void* data, int64_t i) {
  auto& task = *const_cast<Task<T>*>(static_cast<const Task<T>*>(data));
  static thread_local Scratch scratch;
  ProductJob<T> job = task.job;
  const Chunk& chunk = task.groups.chunks[i];
  job.scratch = static_cast<T*>(scratch.get(static_cast<size_t>(equipot::product_scratch_packs(*job.plan) * equipot::product_pack_bytes) + 64));
  if (!job.scratch) {
    task.out_of_memory = true;
    return;
  }
  job.atoms = task.groups.order.data() + chunk.begin, job.n_atoms = chunk.end - chunk.begin;
  if (job.w) job.w += chunk.element * task.w_dim();
  if (job.cw) job.cw += chunk.element * task.w_dim();
  if (job.gw) job.gw = task.parts.get() + i * task.w_dim();
  task.kernel(job);
}

// gw of element i: the sum over its chunks, in their order.
template <class T>
void run_sum(const void* data, int64_t i) {
  const auto& task = *static_cast<const Task<T>*>(data);
  const auto& chunks = task.groups.chunks;
  const auto first = std::partition_point(chunks.begin(), chunks.end(), [&](const Chunk& c) { return c.element < i; });
  const auto last = std::partition_point(first, chunks.end(), [&](const Chunk& c) { return c.element == i; });
  const int64_t n = task.w_dim();
  T* to = task.job.gw + i * n;
  if (first == last)
    std::memset(to, 0, sizeof(T) * static_cast<size_t>(n));
  else
    equipot::active_kernels().linear<T>()->sum_parts(task.parts.get() + (first - chunks.begin()) * n, last - first, n, n, to);
}

// `cost` is the work in units of a forward pass.
template <class T>
int run(ProductJob<T> job, typename equipot::Product<T>::Kernel* kernel, int64_t n_atoms, int64_t n_elements, const int64_t* species,
        int64_t n_channels, int n_threads, int64_t cost) try {
  const equipot_product* plan = job.plan;
  if (!plan || n_atoms < 0 || n_elements < 0 || n_channels < 1 || (!species && n_atoms && n_elements != 1)) return EQUIPOT_BAD_ARGUMENT;
  Task<T> task{};
  task.job = job, task.job.n_channels = n_channels, task.kernel = kernel;
  const int64_t chunk = job.gw ? std::max(chunk_atoms, (n_atoms + most_parts - 1) / most_parts) : chunk_atoms;
  if (!equipot::group_atoms(n_atoms, n_elements, species, chunk, task.groups)) return EQUIPOT_BAD_INDEX;
  const auto n_chunks = static_cast<int64_t>(task.groups.chunks.size());
  if (job.gw) task.parts.reset(new T[n_chunks * task.w_dim()]);
  const auto terms = static_cast<int64_t>(plan->n_nodes + plan->of_row.index.size());
  if (n_atoms * n_channels * terms * cost < small_work) n_threads = 1;
  equipot::parallel_for(n_chunks, n_threads, run_chunk<T>, &task);
  if (task.out_of_memory) return EQUIPOT_OUT_OF_MEMORY;
  if (job.gw) equipot::parallel_for(n_elements, n_elements > 8 ? n_threads : 1, run_sum<T>, &task);
  return EQUIPOT_OK;
} catch (const std::bad_alloc&) {
  return EQUIPOT_OUT_OF_MEMORY;
}

}  // namespace

#define EQUIPOT_DEFINE(T, suffix)                                                                                                          \
  int equipot_product_##suffix(const equipot_product* plan, int64_t n_atoms, int64_t n_elements, const int64_t* species,                   \
                               int64_t n_channels, int n_threads, const T* a, const T* w, T* b) {                                          \
    ProductJob<T> job{};                                                                                                                   \
    job.plan = plan, job.a = a, job.w = w, job.b = b;                                                                                      \
    return run(job, equipot::active_kernels().product<T>()->forward, n_atoms, n_elements, species, n_channels, n_threads, 1);              \
  }                                                                                                                                        \
  int equipot_product_backward_##suffix(const equipot_product* plan, int64_t n_atoms, int64_t n_elements, const int64_t* species,          \
                                        int64_t n_channels, int n_threads, const T* g, const T* a, const T* w, T* ga, T* gw) {             \
    ProductJob<T> job{};                                                                                                                   \
    job.plan = plan, job.g = g, job.a = a, job.w = w, job.ga = ga, job.gw = gw;                                                            \
    return run(job, equipot::active_kernels().product<T>()->backward, n_atoms, n_elements, species, n_channels, n_threads, 3);             \
  }                                                                                                                                        \
  int equipot_product_double_backward_##suffix(const equipot_product* plan, int64_t n_atoms, int64_t n_elements, const int64_t* species,   \
                                               int64_t n_channels, int n_threads, const T* ca, const T* cw, const T* g, const T* a,        \
                                               const T* w, T* dg, T* da, T* dw) {                                                          \
    ProductJob<T> job{};                                                                                                                   \
    job.plan = plan, job.ca = ca, job.cw = cw, job.g = g, job.a = a, job.w = w, job.b = dg, job.ga = da, job.gw = dw;                      \
    return run(job, equipot::active_kernels().product<T>()->double_backward, n_atoms, n_elements, species, n_channels, n_threads, 6);      \
  }
EQUIPOT_DEFINE(float, f32)
EQUIPOT_DEFINE(double, f64)
#undef EQUIPOT_DEFINE
