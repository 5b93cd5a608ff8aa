// A block of edges that share one atom, prepared for the path kernels: harmonics, places in the tables, rows of the other atoms.
#pragma once

#include <cmath>

#include "kernels.hpp"
#include "simd.hpp"

namespace EQUIPOT_NAMESPACE {

using eq::Convolution;
using eq::Edges;
using eq::max_l;
using eq::Path;

constexpr int block_edges = 16;
constexpr int max_d = 2 * max_l + 1;
constexpr int max_y = (max_l + 1) * (max_l + 1);

// What harmonics and their gradients share: powers of (z + ix) and derivatives of Legendre polynomials of y, edges fastest.
template <class T>
struct Harmonics {
  alignas(64) T x[block_edges], y[block_edges], z[block_edges];
  alignas(64) T cosine[max_l + 1][block_edges], sine[max_l + 1][block_edges];
  alignas(64) T legendre[max_l + 1][max_l + 2][block_edges];
};

// The edges e of a block. near: the row of the atom they share; far[e]: that of the other; out: the row that is summed. Radial functions are
// sum_j c[j][e] knot[e][j * n_functions + w], their derivatives the same with dc. m: the coupling matrices sum_m2 C[m1, m2, m3] y[m2] of a path at
// [m1 * d3 + m3][e]. y_sum, r_sum: derivatives by harmonics and distance, by channel lanes.
template <class T>
struct EdgeBlock {
  int size;
  bool fresh;  // the first block of its atom: out is written, not added to
  int64_t n_functions;
  const T *near, *far[block_edges], *knot[block_edges];
  T* out;
  alignas(64) double r[block_edges], per_r[block_edges];
  alignas(64) T place[block_edges], width[block_edges], per_width[block_edges];  // of r in its interval: 0 at the first knot, 1 at the second
  alignas(64) T c[6][block_edges], dc[6][block_edges];
  alignas(64) T y[max_y][block_edges];
  alignas(64) T m[max_d * max_d][block_edges];
  alignas(64) T y_sum[max_y][block_edges][lanes<T>];
  alignas(64) T r_sum[block_edges][lanes<T>];
  Harmonics<T> harmonics;
};

// y[l^2 + l + m] = N_lm P_l^(|m|)(y) x {sine, 1, cosine}; see math/harmonics.py.
template <class T>
EQUIPOT_KERNEL void compute_harmonics(int l_max, const double* norms, Harmonics<T>& w, T (*out)[block_edges]) {
  constexpr int B = block_edges;
  for (int e = 0; e < B; ++e) w.cosine[0][e] = 1, w.sine[0][e] = 0, w.legendre[0][0][e] = 1, w.legendre[0][1][e] = 0;
  for (int l = 1; l <= l_max; ++l) {
    for (int e = 0; e < B; ++e) {
      w.cosine[l][e] = w.z[e] * w.cosine[l - 1][e] - w.x[e] * w.sine[l - 1][e];
      w.sine[l][e] = w.z[e] * w.sine[l - 1][e] + w.x[e] * w.cosine[l - 1][e];
    }
    for (int m = 0; m < l; ++m) {
      const T scale = T(1) / static_cast<T>(l - m), a = static_cast<T>(2 * l - 1) * scale, b = m <= l - 2 ? static_cast<T>(l + m - 1) * scale : T(0);
      const T* below = w.legendre[m <= l - 2 ? l - 2 : 0][m <= l - 2 ? m : 0];
      for (int e = 0; e < B; ++e) w.legendre[l][m][e] = a * w.y[e] * w.legendre[l - 1][m][e] - b * below[e];
    }
    for (int e = 0; e < B; ++e) {
      w.legendre[l][l][e] = static_cast<T>(2 * l - 1) * w.legendre[l - 1][l - 1][e];
      w.legendre[l][l + 1][e] = 0;
    }
  }
  for (int l = 0; l <= l_max; ++l)
    for (int m = -l; m <= l; ++m) {
      const int a = m < 0 ? -m : m;
      const T norm = static_cast<T>(norms[l * (max_l + 1) + a]);
      const T* wave = m < 0 ? w.sine[a] : w.cosine[a];
      T* to = out[l * l + l + m];
      for (int e = 0; e < B; ++e) to[e] = norm * w.legendre[l][a][e] * wave[e];
    }
}

// g[3][e] = sum_lm gy[lm][e] dY_lm/dn as polynomials of three free variables.
template <class T>
EQUIPOT_KERNEL void harmonics_gradient(int l_max, const double* norms, const Harmonics<T>& w, const T (*gy)[block_edges], T (*g)[block_edges]) {
  constexpr int B = block_edges;
  for (int e = 0; e < B; ++e) g[0][e] = g[1][e] = g[2][e] = 0;
  for (int l = 1; l <= l_max; ++l)
    for (int m = -l; m <= l; ++m) {
      const int a = m < 0 ? -m : m;
      const T norm = static_cast<T>(norms[l * (max_l + 1) + a]), power = norm * static_cast<T>(a);
      const T *here = w.legendre[l][a], *slope = w.legendre[l][a + 1], *from = gy[l * l + l + m];
      const T* wave = m < 0 ? w.sine[a] : w.cosine[a];
      for (int e = 0; e < B; ++e) g[1][e] += norm * from[e] * slope[e] * wave[e];
      if (a == 0) continue;
      const T *cosine = w.cosine[a - 1], *sine = w.sine[a - 1];
      if (m < 0)
        for (int e = 0; e < B; ++e) {
          const T x = power * from[e] * here[e];
          g[0][e] += x * cosine[e];
          g[2][e] += x * sine[e];
        }
      else
        for (int e = 0; e < B; ++e) {
          const T x = power * from[e] * here[e];
          g[0][e] -= x * sine[e];
          g[2][e] += x * cosine[e];
        }
    }
}

// The interval of a table that has distance r: its first knot.
EQUIPOT_INLINE int64_t find_interval(const eq::Table& table, const double* knots, double r) {
  int64_t bin = static_cast<int64_t>(r * table.bins_per_length);
  if (bin >= table.n_bins) bin = table.n_bins - 1;
  int64_t i = table.bins[bin];
  while (i + 2 <= table.last && knots[i + 1] <= r) ++i;
  return i;
}

// Lengths and directions of the edges from their vectors; behind the last: none.
template <class T>
EQUIPOT_KERNEL void set_directions(EdgeBlock<T>& block, const double* vectors) {
  alignas(64) double v[3][block_edges];
  for (int e = 0; e < block_edges; ++e)
    for (int a = 0; a < 3; ++a) v[a][e] = e < block.size ? vectors[3 * e + a] : 0;
  for (int e = 0; e < block_edges; ++e) {
    block.r[e] = std::sqrt(v[0][e] * v[0][e] + v[1][e] * v[1][e] + v[2][e] * v[2][e]);
    block.per_r[e] = block.r[e] > 0 ? 1 / block.r[e] : 0;
    block.harmonics.x[e] = static_cast<T>(v[0][e] * block.per_r[e]);
    block.harmonics.y[e] = static_cast<T>(v[1][e] * block.per_r[e]);
    block.harmonics.z[e] = static_cast<T>(v[2][e] * block.per_r[e]);
  }
}

template <class T>
EQUIPOT_INLINE void find_place(EdgeBlock<T>& block, int e, const Convolution<T>& layer, int centre, int neighbour) {
  const eq::Table& table = layer.tables[layer.table_of[centre * layer.n_elements + neighbour]];
  const int64_t i = find_interval(table, layer.knots, block.r[e]);
  const double h = layer.knots[i + 1] - layer.knots[i], per_h = 1 / h;
  block.knot[e] = layer.table + i * 3 * layer.n_functions;
  block.place[e] = static_cast<T>((block.r[e] - layer.knots[i]) * per_h);
  block.width[e] = static_cast<T>(h), block.per_width[e] = static_cast<T>(per_h);
}

// Weights of the six numbers of an interval: f, f', f'' of its first knot, then of its second; and those of the slope.
template <class T, bool SLOPE>
EQUIPOT_KERNEL void set_weights(EdgeBlock<T>& block) {
  for (int e = block.size; e < block_edges; ++e) block.place[e] = block.width[e] = block.per_width[e] = 0;
  for (int e = 0; e < block_edges; ++e) {
    const T s = block.place[e], h = block.width[e], q = 1 - s, s2 = s * s, q2 = q * q, s3 = s2 * s, q3 = q2 * q;
    block.c[0][e] = q3 * (1 + 3 * s + 6 * s2);
    block.c[1][e] = h * s * q3 * (1 + 3 * s);
    block.c[2][e] = T(0.5) * h * h * s2 * q3;
    block.c[3][e] = s3 * (1 + 3 * q + 6 * q2);
    block.c[4][e] = -h * q * s3 * (1 + 3 * q);
    block.c[5][e] = T(0.5) * h * h * q2 * s3;
    if (!SLOPE) continue;
    const T rise = 30 * s2 * q2 * block.per_width[e];
    block.dc[0][e] = -rise;
    block.dc[1][e] = q2 * (1 + 2 * s - 15 * s2);
    block.dc[2][e] = h * T(0.5) * s * q2 * (2 - 5 * s);
    block.dc[3][e] = rise;
    block.dc[4][e] = s2 * (1 + 2 * q - 15 * q2);
    block.dc[5][e] = -h * T(0.5) * q * s2 * (2 - 5 * q);
  }
}

template <class T>
EQUIPOT_INLINE void clear(T* x, int64_t n) { std::memset(x, 0, sizeof(T) * static_cast<size_t>(n)); }

}  // namespace EQUIPOT_NAMESPACE
