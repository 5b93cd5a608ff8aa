// Runs the path kernels of one pass over the edges of a range of receivers, block by block.
#pragma once

#include "generic_kernels.hpp"
#include "path_kernels.hpp"

namespace EQUIPOT_NAMESPACE {

// A kernel of a path on all its channels.
template <class T>
using PathFunction = void(Block<T>&, const Path&);

// Degrees up to which a type has specialised kernels, and whether a triple's kernels take two vectors at once: where it pays for the size of the
// library and the time to build it.
#ifndef EQUIPOT_KERNEL_L
#define EQUIPOT_KERNEL_L 4
#endif
template <class T>
constexpr int specialised_l = sizeof(T) == 4 || EQUIPOT_KERNEL_L < 3 ? EQUIPOT_KERNEL_L : 3;
constexpr bool within_l(int l, int l1, int l2, int l3) { return l1 <= l && l2 <= l && l3 <= l; }
template <class T>
constexpr bool wide(int l1, int l2, int l3) { return sizeof(T) == 4 && within_l(3, l1, l2, l3); }

// Single vectors of channels of a path from channel k on, the last one with lanes off.
template <class T, class One>
EQUIPOT_INLINE void for_each_vector(Block<T>& block, const Path& path, int64_t k, One one) {
  for (; k < path.n_channels; k += lanes<T>) one(block, path, k, path.n_channels - k < lanes<T> ? path.n_channels - k : lanes<T>);
}

// The function of each specialised triple: F<T, l1, l2, l3>::run, by [l1][l2][l3]; null where nothing couples.
constexpr int n_l = EQUIPOT_KERNEL_L + 1;
template <class Function>
struct TripleTable {
  Function* run[n_l][n_l][n_l];
};
template <class Function, class T, template <class, int, int, int> class F>
constexpr TripleTable<Function> make_table() {
  TripleTable<Function> table{};
#define EQUIPOT_ENTRY(l1, l2, l3) \
  if constexpr (within_l(specialised_l<T>, l1, l2, l3)) table.run[l1][l2][l3] = F<T, l1, l2, l3>::run;
  EQUIPOT_FOR_EACH_TRIPLE(EQUIPOT_ENTRY)
#undef EQUIPOT_ENTRY
  return table;
}
template <class T>
inline bool specialised(const Path& path) { return within_l(specialised_l<T>, path.l1, path.l2, path.l3); }

// Defines NAME<T>(block, path): the kernels of that name, specialised or generic; further template arguments come last.
#define EQUIPOT_PATH_FUNCTION(NAME, KERNEL, GENERIC_KERNEL, ...)                                                                           \
  template <class T, int L1, int L2, int L3>                                                                                               \
  struct NAME##_of {                                                                                                                       \
    static void run(Block<T>& block, const Path& path) {                                                                                   \
      using K = PathKernel<T, L1, L2, L3>;                                                                                                 \
      int64_t k = 0;                                                                                                                       \
      if constexpr (wide<T>(L1, L2, L3))                                                                                                   \
        for (; path.n_channels - k >= 2 * lanes<T>; k += 2 * lanes<T>)                                                                     \
          K::template KERNEL<2, false __VA_ARGS__>(block, path, k, lanes<T>);                                                              \
      for_each_vector(block, path, k, K::template KERNEL<1, true __VA_ARGS__>);                                                            \
    }                                                                                                                                      \
  };                                                                                                                                       \
  template <class T>                                                                                                                       \
  void NAME(Block<T>& block, const Path& path) {                                                                                           \
    static constexpr auto table = make_table<PathFunction<T>, T, NAME##_of>();                                                             \
    if (specialised<T>(path)) return table.run[path.l1][path.l2][path.l3](block, path);                                                    \
    for_each_vector(block, path, 0, GenericKernel<T>::GENERIC_KERNEL);                                                                     \
  }

template <class T, int L1, int L2, int L3>
struct Couple {
  static void run(const T (*y)[block_edges], T (*m)[block_edges]) { PathKernel<T, L1, L2, L3>::couple(y, m); }
};

// The coupling matrices of one path.
template <class T>
EQUIPOT_INLINE void couple(const Path& path, const T (*y)[block_edges], T (*m)[block_edges]) {
  static constexpr auto table = make_table<void(const T(*)[block_edges], T(*)[block_edges]), T, Couple>();
  if (specialised<T>(path))
    table.run[path.l1][path.l2][path.l3](y + path.y_start(), m);
  else
    GenericKernel<T>::couple(path, y, m);
}

// What is the same for all blocks of a job.
template <class T>
EQUIPOT_INLINE void prepare(Block<T>& block, const Job<T>& job) {
  static constexpr int64_t no_offsets[block_edges] = {};
  const auto& plan = *job.plan;
  const T* zeros = reinterpret_cast<const T*>(plan.zeros.data());
  block.h = job.h, block.g = job.g, block.out = job.out;
  block.a = job.a ? job.a : zeros;
  block.a_sender = job.a ? block.sender : no_offsets;
  block.h_stride = plan.h_dim;
  block.with_gw = job.gw;
  for (int e = 0; e < block_edges; ++e) block.c[e] = zeros;
}

// Whether another edge of the same pair comes first in pair_edges: its gradient has the row of gw, this one's is added later.
inline bool second_of_pair(const equipot_edges& edges, int64_t e) { return edges.pair && edges.pair_edges[2 * edges.pair[e]] != e; }

// Points the block at edges [first, first + size); `receiver` is that of an edge before and becomes that of the last.
template <class T>
EQUIPOT_INLINE void fill(Block<T>& block, const Job<T>& job, int64_t first, int size, int64_t& receiver) {
  const auto& plan = *job.plan;
  const auto& edges = *job.edges;
  block.size = size;
  block.gh = job.gh ? job.work + first * plan.h_dim : nullptr;
  for (int e = 0; e < size; ++e) {
    const int64_t row = (edges.pair ? edges.pair[first + e] : first + e) * plan.w_dim;
    block.w[e] = job.w + row;
    if (job.c) block.c[e] = job.c + row;
    if (job.gw) block.gw[e] = second_of_pair(edges, first + e) ? job.gw_second + row : job.gw + row;
    while (edges.receiver_start[receiver + 1] <= first + e) ++receiver;
    if (e == 0) block.fresh = edges.receiver_start[receiver] == first;
    block.sender[e] = edges.sender[first + e] * plan.h_dim;
    block.receiver[e] = receiver * plan.out_dim;
  }
  transpose(job.y + first * plan.y_dim, plan.y_dim, size, block.y);
}

template <class T>
EQUIPOT_INLINE void clear(T* x, int64_t n) { std::memset(x, 0, sizeof(T) * static_cast<size_t>(n)); }

// gy of the block's edges from the sums by lanes.
template <class T>
EQUIPOT_INLINE void store_y(const Block<T>& block, T* gy, int64_t y_dim) {
  const Lanes<T, false> whole(0);
  for (int e = 0; e < block.size; ++e)
    for (int64_t m = 0; m < y_dim; ++m) gy[e * y_dim + m] = sum<T>(whole.load(block.y_sum[m][e]));
}

// Asks the second-level cache for n numbers from x on.
template <class T>
EQUIPOT_INLINE void prefetch(const T* x, int64_t n) {
  for (int64_t k = 0; k < n; k += 64 / static_cast<int64_t>(sizeof(T))) __builtin_prefetch(x + k, 0, 2);
}

// Bytes of rows of weights beyond which a path of one block asks for the same path of the next.
constexpr int64_t far_bytes = 8 << 20;

// The edges of receivers first <= i < last: `kernel` (if not null) and, if gy is wanted, `gradient_y` of every path of every block.
// SECOND: the double backward, which needs N = C b too.
template <bool SECOND, class T>
void drive(const Job<T>& job, int64_t first, int64_t last, PathFunction<T>* kernel, PathFunction<T>* gradient_y) {
  const auto& plan = *job.plan;
  const int64_t *start = job.edges->receiver_start, end = start[last];
  Block<T> block;
  prepare(block, job);
  if (job.out)
    for (int64_t i = first; i < last; ++i)
      if (!plan.out_covered || start[i] == start[i + 1]) clear(job.out + i * plan.out_dim, plan.out_dim);
  const int64_t n_rows = 1 + (job.c != nullptr) + (job.gw != nullptr);
  const bool far = job.edges->n_edges * plan.w_dim * n_rows * static_cast<int64_t>(sizeof(T)) > far_bytes;
  int64_t receiver = first;
  for (int64_t edge = start[first]; edge < end; edge += block_edges) {
    const int size = end - edge < block_edges ? static_cast<int>(end - edge) : block_edges;
    fill(block, job, edge, size, receiver);
    if (SECOND && job.b) transpose(job.b + edge * plan.y_dim, plan.y_dim, size, block.b);
    if (job.gh && !plan.h_covered) clear(job.work + edge * plan.h_dim, size * plan.h_dim);
    if (job.gw && !plan.w_covered)
      for (int e = 0; e < size; ++e) clear(block.gw[e], plan.w_dim);
    if (job.gy) std::memset(block.y_sum, 0, sizeof block.y_sum[0] * plan.y_dim);
    const int64_t next = edge + block_edges, after = far ? (end - next < block_edges ? end : next + block_edges) : next;
    for (const Path& path : plan.paths) {
      for (int64_t e = next; e < after; ++e) {
        const int64_t at = (job.edges->pair ? job.edges->pair[e] : e) * plan.w_dim + path.w_start;
        prefetch(job.w + at, path.n_channels);
        if (job.c) prefetch(job.c + at, path.n_channels);
        if (job.gw) prefetch(job.gw + at, path.n_channels);
      }
      couple<T>(path, block.y, block.m);
      if (SECOND && job.b) couple<T>(path, block.b, block.n);
      if (SECOND && !job.b) std::memset(block.n, 0, sizeof block.n[0] * path.d1() * path.d3());
      if (kernel) kernel(block, path);
      if (job.gy) gradient_y(block, path);
    }
    if (job.gy) store_y(block, job.gy + edge * plan.y_dim, plan.y_dim);
  }
}

}  // namespace EQUIPOT_NAMESPACE
