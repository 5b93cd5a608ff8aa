// The kernels of one path for the edges of a block: specialised for its degrees, or generic.
//
// Per edge and channel, with w = R(r), w' = dR/dr from the table and M = sum_m2 C Y (the derivative of what is summed):
//   forward   A[m3] += sum_m1 M (w h[m1]),  h the row of the other atom (sender), A that of the shared one (receiver)
//   backward  u[m1] = sum_m3 M g[m3],  g the row of the other atom (receiver), h that of the shared one (sender)
//             gh[m1] += w u[m1];  gr += w' sum_m1 u h;  gy[m2] += C (w h[m1]) g[m3]
// What belongs to the shared atom stays in registers over the edges of the block.
#pragma once

#include "coupling_constants.h"
#include "edge_block.hpp"

namespace EQUIPOT_NAMESPACE {

// R of a vector of channels of edge e.
template <class T, class Lane>
EQUIPOT_INLINE Vec<T> radial(const EdgeBlock<T>& block, const T (&c)[6][block_edges], int e, int64_t at, const Lane& lane) {
  const T* p = block.knot[e] + at;
  Vec<T> w = broadcast(c[0][e]) * lane.load(p);
  EQUIPOT_UNROLL for (int j = 1; j < 6; ++j) {
    p += block.n_functions;
    w += broadcast(c[j][e]) * lane.load(p);
  }
  return w;
}

// R and dR/dr.
template <class T, class Lane>
EQUIPOT_INLINE void radial_slope(const EdgeBlock<T>& block, int e, int64_t at, const Lane& lane, Vec<T>& w, Vec<T>& dw) {
  const T* p = block.knot[e] + at;
  Vec<T> x = lane.load(p);
  w = broadcast(block.c[0][e]) * x;
  dw = broadcast(block.dc[0][e]) * x;
  EQUIPOT_UNROLL for (int j = 1; j < 6; ++j) {
    p += block.n_functions;
    x = lane.load(p);
    w += broadcast(block.c[j][e]) * x;
    dw += broadcast(block.dc[j][e]) * x;
  }
}

template <class T>
EQUIPOT_INLINE void add_lanes(T* p, Vec<T> x) {
  const Lanes<T, false> whole(0);
  whole.store(p, whole.load(p) + x);
}

template <class T, int L1, int L2, int L3>
struct PathKernel {
  static constexpr int D1 = 2 * L1 + 1, D2 = 2 * L2 + 1, D3 = 2 * L3 + 1;
  using C = Coupling<L1, L2, L3>;
  using V = Vec<T>;

  // Which entries of M can be other than 0.
  struct Pattern {
    bool on[D1][D3];
  };
  static constexpr Pattern make_pattern() {
    Pattern p{};
    for (int m1 = 0; m1 < D1; ++m1)
      for (int m2 = 0; m2 < D2; ++m2)
        for (int m3 = 0; m3 < D3; ++m3) p.on[m1][m3] |= C::c[m1][m2][m3] != 0;
    return p;
  }
  static constexpr Pattern pattern = make_pattern();

  EQUIPOT_KERNEL static void couple(const T (*y)[block_edges], T (*m)[block_edges]) {
    const Lanes<T, false> lane(0);
    for (int e = 0; e < block_edges; e += lanes<T>) {
      V yv[D2];
      EQUIPOT_UNROLL for (int m2 = 0; m2 < D2; ++m2) yv[m2] = lane.load(&y[m2][e]);
      EQUIPOT_UNROLL for (int m1 = 0; m1 < D1; ++m1) {
        EQUIPOT_UNROLL for (int m3 = 0; m3 < D3; ++m3) {
          if (!pattern.on[m1][m3]) continue;
          V x{};
          EQUIPOT_UNROLL for (int m2 = 0; m2 < D2; ++m2)
            if (C::c[m1][m2][m3] != 0) x += broadcast(static_cast<T>(C::c[m1][m2][m3])) * yv[m2];
          lane.store(&m[m1 * D3 + m3][e], x);
        }
      }
    }
  }

  template <bool TAIL>
  EQUIPOT_KERNEL static void forward(EdgeBlock<T>& block, const Path& path, int64_t k, int64_t n_lanes) {
    const Lanes<T, TAIL> lane(n_lanes);
    const int64_t h_start = path.h_start + k, w_start = path.w_start + k, stride = path.n_channels;
    T* out = block.out + path.out_start + k;
    V sum[D3] = {};
    if (!block.fresh) EQUIPOT_UNROLL for (int m3 = 0; m3 < D3; ++m3) sum[m3] = lane.load(out + m3 * path.out_stride);
    for (int e = 0; e < block.size; ++e) {
      const T* h = block.far[e] + h_start;
      const V w = radial(block, block.c, e, w_start, lane);
      V x[D3] = {};
      EQUIPOT_UNROLL for (int m1 = 0; m1 < D1; ++m1) {
        V hv = lane.load(h);
        if (D1 <= D3) hv *= w;  // weight the smaller of h and the result
        h += stride;
        EQUIPOT_UNROLL for (int m3 = 0; m3 < D3; ++m3) {
          if (!pattern.on[m1][m3]) continue;
          const V m = broadcast(block.m[m1 * D3 + m3][e]);
          if (D1 <= D3)
            sum[m3] += m * hv;
          else
            x[m3] += m * hv;
        }
      }
      if (D1 > D3) EQUIPOT_UNROLL for (int m3 = 0; m3 < D3; ++m3) sum[m3] += w * x[m3];
    }
    EQUIPOT_UNROLL for (int m3 = 0; m3 < D3; ++m3) lane.store(out + m3 * path.out_stride, sum[m3]);
  }

  template <bool TAIL>
  EQUIPOT_KERNEL static void backward(EdgeBlock<T>& block, const Path& path, int64_t k, int64_t n_lanes) {
    const Lanes<T, TAIL> lane(n_lanes);
    const int64_t g_start = path.out_start + k, w_start = path.w_start + k, stride = path.n_channels;
    const T* near = block.near + path.h_start + k;
    T* out = block.out ? block.out + path.h_start + k : nullptr;
    V h[D1], gh[D1] = {};
    EQUIPOT_UNROLL for (int m1 = 0; m1 < D1; ++m1) h[m1] = lane.load(near + m1 * stride);
    for (int e = 0; e < block.size; ++e) {
      const T* from = block.far[e] + g_start;
      V g[D3], w, dw, gw{}, gy[D2] = {};
      EQUIPOT_UNROLL for (int m3 = 0; m3 < D3; ++m3) {
        g[m3] = lane.load(from);
        from += path.out_stride;
      }
      radial_slope(block, e, w_start, lane, w, dw);
      EQUIPOT_UNROLL for (int m1 = 0; m1 < D1; ++m1) {
        V u{};
        const V x = w * h[m1];
        EQUIPOT_UNROLL for (int m3 = 0; m3 < D3; ++m3) {
          if (!pattern.on[m1][m3]) continue;
          u += broadcast(block.m[m1 * D3 + m3][e]) * g[m3];
          if (L2 == 0) continue;
          const V p = x * g[m3];
          EQUIPOT_UNROLL for (int m2 = 0; m2 < D2; ++m2)
            if (C::c[m1][m2][m3] != 0) gy[m2] += broadcast(static_cast<T>(C::c[m1][m2][m3])) * p;
        }
        gw += u * h[m1];
        gh[m1] += w * u;
      }
      add_lanes(block.r_sum[e], gw * dw);
      if (L2 > 0) EQUIPOT_UNROLL for (int m2 = 0; m2 < D2; ++m2) add_lanes(block.y_sum[L2 * L2 + m2][e], gy[m2]);
    }
    if (out) EQUIPOT_UNROLL for (int m1 = 0; m1 < D1; ++m1) lane.store(out + m1 * stride, lane.load(out + m1 * stride) + gh[m1]);
  }
};

// Any degrees, with loops over the sparse coefficients.
template <class T>
struct GenericKernel {
  using V = Vec<T>;
  using Lane = Lanes<T, true>;

  EQUIPOT_KERNEL static void couple(const Path& path, const T (*y)[block_edges], T (*m)[block_edges]) {
    const int d1 = 2 * path.l1 + 1, d3 = 2 * path.l3 + 1;
    std::memset(m, 0, sizeof m[0] * d1 * d3);
    for (int64_t i = 0; i < path.n_coefficients; ++i) {
      const auto& x = path.coefficients[i];
      T* to = m[x.m1 * d3 + x.m3];
      const T* from = y[path.l2 * path.l2 + x.m2];
      for (int e = 0; e < block_edges; ++e) to[e] += static_cast<T>(x.value) * from[e];
    }
  }

  EQUIPOT_KERNEL static void forward(EdgeBlock<T>& block, const Path& path, int64_t k, int64_t n_lanes) {
    const Lane lane(n_lanes);
    const int d1 = 2 * path.l1 + 1, d3 = 2 * path.l3 + 1;
    T* out = block.out + path.out_start + k;
    V sum[max_d];
    for (int m3 = 0; m3 < d3; ++m3) sum[m3] = block.fresh ? V{} : lane.load(out + m3 * path.out_stride);
    for (int e = 0; e < block.size; ++e) {
      const T* h = block.far[e] + path.h_start + k;
      const V w = radial(block, block.c, e, path.w_start + k, lane);
      for (int m1 = 0; m1 < d1; ++m1) {
        const V x = w * lane.load(h + m1 * path.n_channels);
        for (int m3 = 0; m3 < d3; ++m3) sum[m3] += broadcast(block.m[m1 * d3 + m3][e]) * x;
      }
    }
    for (int m3 = 0; m3 < d3; ++m3) lane.store(out + m3 * path.out_stride, sum[m3]);
  }

  EQUIPOT_KERNEL static void backward(EdgeBlock<T>& block, const Path& path, int64_t k, int64_t n_lanes) {
    const Lane lane(n_lanes);
    const int d1 = 2 * path.l1 + 1, d3 = 2 * path.l3 + 1;
    const T* near = block.near + path.h_start + k;
    for (int e = 0; e < block.size; ++e) {
      V h[max_d], g[max_d], gy[max_d] = {}, w, dw, gw{};
      for (int m1 = 0; m1 < d1; ++m1) h[m1] = lane.load(near + m1 * path.n_channels);
      for (int m3 = 0; m3 < d3; ++m3) g[m3] = lane.load(block.far[e] + path.out_start + k + m3 * path.out_stride);
      radial_slope(block, e, path.w_start + k, lane, w, dw);
      for (int m1 = 0; m1 < d1; ++m1) {
        V u{};
        for (int m3 = 0; m3 < d3; ++m3) u += broadcast(block.m[m1 * d3 + m3][e]) * g[m3];
        gw += u * h[m1];
        if (!block.out) continue;
        T* out = block.out + path.h_start + k + m1 * path.n_channels;
        lane.store(out, lane.load(out) + w * u);
      }
      for (int64_t i = 0; i < path.n_coefficients; ++i) {
        const auto& c = path.coefficients[i];
        gy[c.m2] += broadcast(static_cast<T>(c.value)) * (w * h[c.m1] * g[c.m3]);
      }
      add_lanes(block.r_sum[e], gw * dw);
      for (int m2 = 0; m2 < 2 * path.l2 + 1; ++m2) add_lanes(block.y_sum[path.l2 * path.l2 + m2][e], gy[m2]);
    }
  }
};

// Degrees up to which a type has specialised kernels.
#ifndef EQ_KERNEL_L
#define EQ_KERNEL_L 3
#endif
template <class T>
constexpr int specialised_l = sizeof(T) == 4 || EQ_KERNEL_L < 2 ? EQ_KERNEL_L : 2;
constexpr int n_l = EQ_KERNEL_L + 1;
constexpr bool within_l(int l, int l1, int l2, int l3) { return l1 <= l && l2 <= l && l3 <= l; }

template <class T>
struct PathFunctions {
  void (*couple)(const T (*)[block_edges], T (*)[block_edges]);
  void (*forward[2])(EdgeBlock<T>&, const Path&, int64_t, int64_t);   // whole vectors, some lanes
  void (*backward[2])(EdgeBlock<T>&, const Path&, int64_t, int64_t);
};
template <class T>
struct PathTable {
  PathFunctions<T> of[n_l][n_l][n_l];
};
template <class T>
constexpr PathTable<T> make_path_table() {
  PathTable<T> table{};
#define EQ_ENTRY(l1, l2, l3)                                                                                                    \
  if constexpr (within_l(specialised_l<T>, l1, l2, l3)) {                                                                       \
    using K = PathKernel<T, l1, l2, l3>;                                                                                        \
    table.of[l1][l2][l3] = {K::couple, {K::template forward<false>, K::template forward<true>},                                 \
                            {K::template backward<false>, K::template backward<true>}};                                         \
  }
  EQUIPOT_FOR_EACH_TRIPLE(EQ_ENTRY)
#undef EQ_ENTRY
  return table;
}

// All channels of a path.
template <class T, bool BACKWARD>
EQUIPOT_INLINE void run_path(EdgeBlock<T>& block, const Path& path) {
  static constexpr auto table = make_path_table<T>();
  const bool special = within_l(specialised_l<T>, path.l1, path.l2, path.l3);
  const PathFunctions<T>* functions = special ? &table.of[path.l1][path.l2][path.l3] : nullptr;
  if (special)
    functions->couple(block.y + path.l2 * path.l2, block.m);
  else
    GenericKernel<T>::couple(path, block.y, block.m);
  for (int64_t k = 0; k < path.n_channels; k += lanes<T>) {
    const bool tail = path.n_channels - k < lanes<T>;
    const int64_t n = tail ? path.n_channels - k : lanes<T>;
    if (!special)
      BACKWARD ? GenericKernel<T>::backward(block, path, k, n) : GenericKernel<T>::forward(block, path, k, n);
    else
      BACKWARD ? functions->backward[tail](block, path, k, n) : functions->forward[tail](block, path, k, n);
  }
}

}  // namespace EQUIPOT_NAMESPACE
