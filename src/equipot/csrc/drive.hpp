// Runs the path kernels of one pass (forward, backward, double backward) over the edges of a range of receivers, block by block.
#pragma once

#include "generic_kernels.hpp"
#include "path_kernels.hpp"

namespace EQUIPOT_NAMESPACE {

constexpr int n_l = EQUIPOT_SPECIALISED_L + 1;

// One function per specialised triple, by [l1][l2][l3]; null where nothing couples. Made by `Maker<T, l1, l2, l3>::run`.
template <class F>
struct TripleTable {
  F* run[n_l][n_l][n_l];
};

template <class F, class T, template <class, int, int, int> class Maker>
constexpr TripleTable<F> make_table() {
  TripleTable<F> table{};
#define EQUIPOT_ENTRY(l1, l2, l3) table.run[l1][l2][l3] = Maker<T, l1, l2, l3>::run;
  EQUIPOT_FOR_EACH_TRIPLE(EQUIPOT_ENTRY)
#undef EQUIPOT_ENTRY
  return table;
}

inline bool specialised(const Path& path) { return path.l1 < n_l && path.l2 < n_l && path.l3 < n_l; }

template <class T, int L1, int L2, int L3>
struct Couple {
  static void run(const T (*y)[block_edges], T (*m)[block_edges]) { PathKernel<T, L1, L2, L3>::couple(y, m); }
};

// The coupling matrices of one path.
template <class T>
inline void couple(const Path& path, const T (*y)[block_edges], T (*m)[block_edges]) {
  using F = void(const T(*)[block_edges], T(*)[block_edges]);
  static constexpr auto table = make_table<F, T, Couple>();
  if (specialised(path))
    table.run[path.l1][path.l2][path.l3](y + path.y_start(), m);
  else
    GenericKernel<T>::couple(path, y, m);
}

// Cuts the channels of a path into tiles: two vectors as long as they fill, then single vectors, the last one with lanes off.
template <class T, class Two, class One>
EQUIPOT_INLINE void for_each_tile(const Path& path, Two&& two, One&& one) {
  int64_t k = 0;
  for (; path.n_channels - k >= 2 * lanes<T>; k += 2 * lanes<T>) two(k);
  for (; k < path.n_channels; k += lanes<T>) one(k, path.n_channels - k < lanes<T> ? path.n_channels - k : lanes<T>);
}

// Points the block at edges [first, first + size); `receiver` is that of the first edge and becomes that of the last.
template <class T>
inline void fill(Block<T>& block, const Job<T>& job, int64_t first, int size, int64_t& receiver) {
  const auto& plan = *job.plan;
  const auto& edges = *job.edges;
  const T* zeros = reinterpret_cast<const T*>(plan.zeros.data());
  block.size = size;
  for (int e = 0; e < size; ++e) {
    const int64_t edge = first + e, sender = edges.sender[edge];
    while (edges.receiver_start[receiver + 1] <= edge) ++receiver;
    block.h[e] = job.h + sender * plan.h_dim;
    block.w[e] = job.w + edge * plan.w_dim;
    block.out[e] = job.out ? job.out + receiver * plan.out_dim : nullptr;
    block.g[e] = job.g + receiver * plan.out_dim;
    block.a[e] = job.a ? job.a + sender * plan.h_dim : zeros;
    block.c[e] = job.c ? job.c + edge * plan.w_dim : zeros;
    block.gh[e] = job.gh ? job.work + edge * plan.h_dim : nullptr;
    block.gw[e] = job.gw ? job.gw + edge * plan.w_dim : nullptr;
  }
  transpose(job.y + first * plan.y_dim, plan.y_dim, size, block.y);
}

template <class T>
inline void clear(T* x, int64_t n) { std::memset(x, 0, sizeof(T) * static_cast<size_t>(n)); }

// gy of the block's edges from the sums by lanes.
template <class T>
inline void store_y(const Block<T>& block, T* gy, int64_t y_dim) {
  const Lanes<T, false> whole(0);
  for (int e = 0; e < block.size; ++e)
    for (int64_t m = 0; m < y_dim; ++m) gy[e * y_dim + m] = sum<T>(whole.load(block.y_sum[m][e]));
}

// Pass<T>::run(block, path, with_y) does one path; Pass<T>::second says whether N = C b is needed too.
template <class T, template <class> class Pass>
void drive(const Job<T>& job, int64_t first, int64_t last) {
  const auto& plan = *job.plan;
  const int64_t *start = job.edges->receiver_start, end = start[last];
  Block<T> block;
  if (job.out) clear(job.out + first * plan.out_dim, (last - first) * plan.out_dim);
  int64_t receiver = first;
  for (int64_t edge = start[first]; edge < end; edge += block_edges) {
    const int size = end - edge < block_edges ? static_cast<int>(end - edge) : block_edges;
    fill(block, job, edge, size, receiver);
    if (Pass<T>::second && job.b) transpose(job.b + edge * plan.y_dim, plan.y_dim, size, block.b);
    if (job.gh) clear(job.work + edge * plan.h_dim, size * plan.h_dim);
    if (job.gw && !plan.weights_covered) clear(job.gw + edge * plan.w_dim, size * plan.w_dim);
    if (job.gy) std::memset(block.y_sum, 0, sizeof block.y_sum[0] * plan.y_dim);
    for (const Path& path : plan.paths) {
      if (!path.same_triple) {
        couple<T>(path, block.y, block.m);
        if (Pass<T>::second && job.b) couple<T>(path, block.b, block.n);
        if (Pass<T>::second && !job.b) std::memset(block.n, 0, sizeof block.n[0] * path.d1() * path.d3());
      }
      Pass<T>::run(block, path, job.gy != nullptr);
    }
    if (job.gy) store_y(block, job.gy + edge * plan.y_dim, plan.y_dim);
  }
}

}  // namespace EQUIPOT_NAMESPACE
