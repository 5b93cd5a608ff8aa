// A block of consecutive edges, prepared for the path kernels.
#pragma once

#include "kernels.hpp"
#include "simd.hpp"

namespace EQUIPOT_NAMESPACE {

using equipot::Job;
using equipot::Path;

constexpr int block_edges = 16;
constexpr int max_l = EQUIPOT_MAX_L;
constexpr int max_d = 2 * max_l + 1;
constexpr int max_y = (max_l + 1) * (max_l + 1);

// The edges e of a block. Rows of atoms: h and a at sender[e], g and out at receiver[e], offsets from the arrays' beginning. Rows of weights: w[e],
// c[e] and gw[e]. gh (each edge's part of it) is the row of the block's first edge, the others follow at its stride. What is absent: a and c are a
// row of zeros, outputs are null. y and b transposed, edges fastest; m and n the coupling matrices sum_m2 C[m1, m2, m3] y[m2]
// (or b) of the current path at [m1 * d3 + m3][e]; y_sum partial sums of gy, by channel lanes.
template <class T>
struct Block {
  int size;
  bool fresh;  // the first edge is its receiver's first: its row of out is written, not added to
  bool with_gw;
  const T *h, *a, *g;
  T *out, *gh;
  int64_t h_stride;
  const T *w[block_edges], *c[block_edges];
  T* gw[block_edges];
  const int64_t* a_sender;
  int64_t sender[block_edges], receiver[block_edges];
  alignas(64) T y[max_y][block_edges];
  alignas(64) T b[max_y][block_edges];
  alignas(64) T m[max_d * max_d][block_edges];
  alignas(64) T n[max_d * max_d][block_edges];
  alignas(64) T y_sum[max_y][block_edges][lanes<T>];
};

// to[j][e] = rows[e][j]; edges beyond the block's size are 0, so that kernels may compute them.
template <class T>
EQUIPOT_INLINE void transpose(const T* rows, int64_t n_columns, int size, T (*to)[block_edges]) {
  if (size < block_edges)
    for (int64_t j = 0; j < n_columns; ++j) std::memset(to[j], 0, sizeof to[j]);
  for (int e = 0; e < size; ++e)
    for (int64_t j = 0; j < n_columns; ++j) to[j][e] = rows[e * n_columns + j];
}

}  // namespace EQUIPOT_NAMESPACE
