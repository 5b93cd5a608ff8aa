// The kernels of one path, specialised for its degrees: sums over m unrolled, coefficients constant, accumulators in registers.
//
// Each runs over the edges of a block, for NB vectors of channels from channel k at once (or one vector with some lanes off). With
// M = sum_m2 C Y and N = sum_m2 C b, per edge and channel:
//   forward           A[m3] += sum_m1 M (w h[m1])
//   backward          u[m1] = sum_m3 M g[m3];  gw = sum_m1 u h;  gh[m1] += w u
//   double backward   s = w a + c h, q = w h, v[m1] = sum_m3 N g[m3];
//                     dg[m3] += M s + N q;  dw = sum_m1 a u + h v;  dh[m1] += c u + w v
//   gradient of y     gy[m2] += C x[m1] g[m3], x = w h in the backward and s in the double backward
// A and dg are summed in registers, and g kept there, while the receiver stays the same. Local arrays are registers: every loop over m and b is
// unrolled.
#pragma once

#include "block.hpp"
#include "coupling_constants.h"

namespace EQUIPOT_NAMESPACE {

// The vectors of D rows of NB vectors, `stride` apart.
template <class T, int D, int NB, bool TAIL>
EQUIPOT_INLINE void load_rows(Vec<T> (&to)[D][NB], const T* p, int64_t stride, const Lanes<T, TAIL>& lane) {
  EQUIPOT_UNROLL for (int m = 0; m < D; ++m) {
    EQUIPOT_UNROLL for (int b = 0; b < NB; ++b) to[m][b] = lane.load(p + b * lanes<T>);
    p += stride;
    EQUIPOT_FORGET(p);
  }
}

// Writes (fresh) or adds the sums of one receiver to its row, and clears them.
template <class T, int D, int NB, bool TAIL>
EQUIPOT_INLINE void flush(Vec<T> (&sum)[D][NB], T* p, int64_t stride, bool fresh, const Lanes<T, TAIL>& lane) {
  EQUIPOT_UNROLL for (int m = 0; m < D; ++m) {
    EQUIPOT_UNROLL for (int b = 0; b < NB; ++b) {
      lane.store(p + b * lanes<T>, fresh ? sum[m][b] : lane.load(p + b * lanes<T>) + sum[m][b]);
      sum[m][b] = Vec<T>{};
    }
    p += stride;
    EQUIPOT_FORGET(p);
  }
}

// Writes (fresh) or adds x to NB vectors at p.
template <class T, int NB, bool TAIL>
EQUIPOT_INLINE void put(const Vec<T> (&x)[NB], T* p, bool fresh, const Lanes<T, TAIL>& lane) {
  EQUIPOT_UNROLL for (int b = 0; b < NB; ++b) lane.store(p + b * lanes<T>, fresh ? x[b] : lane.load(p + b * lanes<T>) + x[b]);
}

template <class T, int L1, int L2, int L3>
struct PathKernel {
  static constexpr int D1 = 2 * L1 + 1, D2 = 2 * L2 + 1, D3 = 2 * L3 + 1;
  using C = Coupling<L1, L2, L3>;
  using V = Vec<T>;

  // Which entries of M and N can be other than 0.
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

  // m[m1 * D3 + m3] = sum_m2 C y[m2], for all edges of the block; entries that are always 0 are not written.
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

  template <int NB, bool TAIL>
  EQUIPOT_KERNEL static void forward(Block<T>& block, const Path& path, int64_t k, int64_t n_lanes) {
    const Lanes<T, TAIL> lane(n_lanes);
    const int64_t h_stride = path.n_channels, out_stride = path.out_stride;
    const T* h_base = block.h + path.h_start + k;
    const int64_t w_at = path.w_start + k;
    T* out_base = block.out + path.out_start + path.out_channel + k;
    V sum[D3][NB] = {};
    int64_t receiver = block.receiver[0];
    bool fresh = block.fresh;
    for (int e = 0; e < block.size; ++e) {
      const T* w = block.w[e] + w_at;
      if (block.receiver[e] != receiver) {
        flush(sum, out_base + receiver, out_stride, fresh, lane);
        receiver = block.receiver[e], fresh = true;
      }
      const T* h = h_base + block.sender[e];
      V wv[NB], x[D3][NB] = {};
      EQUIPOT_UNROLL for (int b = 0; b < NB; ++b) wv[b] = lane.load(w + b * lanes<T>);
      EQUIPOT_UNROLL for (int m1 = 0; m1 < D1; ++m1) {
        V hv[NB];
        EQUIPOT_UNROLL for (int b = 0; b < NB; ++b) {
          hv[b] = lane.load(h + b * lanes<T>);
          if (D1 <= D3) hv[b] *= wv[b];  // weight the smaller of h and the result
        }
        h += h_stride;
        EQUIPOT_FORGET(h);
        EQUIPOT_UNROLL for (int m3 = 0; m3 < D3; ++m3) {
          if (!pattern.on[m1][m3]) continue;
          const V m = broadcast(block.m[m1 * D3 + m3][e]);
          EQUIPOT_UNROLL for (int b = 0; b < NB; ++b) {
            if (D1 <= D3)
              sum[m3][b] += m * hv[b];
            else
              x[m3][b] += m * hv[b];
          }
        }
      }
      if (D1 > D3) {
        EQUIPOT_UNROLL for (int m3 = 0; m3 < D3; ++m3) {
          EQUIPOT_UNROLL for (int b = 0; b < NB; ++b) sum[m3][b] += wv[b] * x[m3][b];
        }
      }
    }
    flush(sum, out_base + receiver, out_stride, fresh, lane);
  }

  template <int NB, bool TAIL>
  EQUIPOT_KERNEL static void backward(Block<T>& block, const Path& path, int64_t k, int64_t n_lanes) {
    const Lanes<T, TAIL> lane(n_lanes);
    const int64_t h_stride = path.n_channels, g_stride = path.out_stride;
    const T* h_base = block.h + path.h_start + k;
    const int64_t w_at = path.w_start + k;
    const T* g_base = block.g + path.out_start + path.out_channel + k;
    T* gh_row = block.gh + path.h_start + k;
    const bool with_gh = block.gh, with_gw = block.with_gw, fresh = path.first_of_h;
    V gv[D3][NB];
    int64_t receiver = -1;
    for (int e = 0; e < block.size; ++e, gh_row += block.h_stride) {
      const T* w = block.w[e] + w_at;
      if (block.receiver[e] != receiver) {
        receiver = block.receiver[e];
        load_rows(gv, g_base + receiver, g_stride, lane);
      }
      const T* h = h_base + block.sender[e];
      T* gh = gh_row;
      V wv[NB], gwv[NB] = {};
      EQUIPOT_UNROLL for (int b = 0; b < NB; ++b) wv[b] = lane.load(w + b * lanes<T>);
      EQUIPOT_UNROLL for (int m1 = 0; m1 < D1; ++m1) {
        V u[NB] = {};
        EQUIPOT_UNROLL for (int m3 = 0; m3 < D3; ++m3) {
          if (!pattern.on[m1][m3]) continue;
          const V m = broadcast(block.m[m1 * D3 + m3][e]);
          EQUIPOT_UNROLL for (int b = 0; b < NB; ++b) u[b] += m * gv[m3][b];
        }
        EQUIPOT_UNROLL for (int b = 0; b < NB; ++b) {
          gwv[b] += u[b] * lane.load(h + b * lanes<T>);
          u[b] *= wv[b];
        }
        if (with_gh) put(u, gh, fresh, lane);
        h += h_stride, gh += h_stride;
        EQUIPOT_FORGET(h);
        EQUIPOT_FORGET(gh);
      }
      if (with_gw) put(gwv, block.gw[e] + w_at, true, lane);
    }
  }

  template <int NB, bool TAIL>
  EQUIPOT_KERNEL static void double_backward(Block<T>& block, const Path& path, int64_t k, int64_t n_lanes) {
    const Lanes<T, TAIL> lane(n_lanes);
    const int64_t h_stride = path.n_channels, g_stride = path.out_stride, g_at = path.out_start + path.out_channel + k;
    const T *h_base = block.h + path.h_start + k, *a_base = block.a + path.h_start + k;
    const int64_t w_at = path.w_start + k;
    T* gh_row = block.gh + path.h_start + k;
    const bool with_gh = block.gh, with_gw = block.with_gw, fresh_gh = path.first_of_h;
    bool fresh = block.fresh;
    V gv[D3][NB], sum[D3][NB] = {};
    int64_t receiver = -1;
    for (int e = 0; e < block.size; ++e, gh_row += block.h_stride) {
      const T *w = block.w[e] + w_at, *c = block.c[e] + w_at;
      if (block.receiver[e] != receiver) {
        if (receiver >= 0) {
          if (block.out) flush(sum, block.out + g_at + receiver, g_stride, fresh, lane);
          fresh = true;
        }
        receiver = block.receiver[e];
        load_rows(gv, block.g + g_at + receiver, g_stride, lane);
      }
      const T *h = h_base + block.sender[e], *a = a_base + block.a_sender[e];
      T* gh = gh_row;
      V wv[NB], cv[NB], gwv[NB] = {};
      EQUIPOT_UNROLL for (int b = 0; b < NB; ++b) {
        wv[b] = lane.load(w + b * lanes<T>);
        cv[b] = lane.load(c + b * lanes<T>);
      }
      EQUIPOT_UNROLL for (int m1 = 0; m1 < D1; ++m1) {
        V s[NB], q[NB], u[NB] = {}, v[NB] = {};
        EQUIPOT_UNROLL for (int b = 0; b < NB; ++b) {
          const V hv = lane.load(h + b * lanes<T>);
          q[b] = wv[b] * hv;
          s[b] = wv[b] * lane.load(a + b * lanes<T>) + cv[b] * hv;
        }
        EQUIPOT_UNROLL for (int m3 = 0; m3 < D3; ++m3) {
          if (!pattern.on[m1][m3]) continue;
          const V m = broadcast(block.m[m1 * D3 + m3][e]), n = broadcast(block.n[m1 * D3 + m3][e]);
          EQUIPOT_UNROLL for (int b = 0; b < NB; ++b) {
            u[b] += m * gv[m3][b];
            v[b] += n * gv[m3][b];
            sum[m3][b] += m * s[b];
            sum[m3][b] += n * q[b];
          }
        }
        EQUIPOT_UNROLL for (int b = 0; b < NB; ++b) {
          gwv[b] += u[b] * lane.load(a + b * lanes<T>);
          gwv[b] += v[b] * lane.load(h + b * lanes<T>);
          u[b] = cv[b] * u[b] + wv[b] * v[b];
        }
        if (with_gh) put(u, gh, fresh_gh, lane);
        h += h_stride, a += h_stride, gh += h_stride;
        EQUIPOT_FORGET(h);
        EQUIPOT_FORGET(a);
        EQUIPOT_FORGET(gh);
      }
      if (with_gw) put(gwv, block.gw[e] + w_at, true, lane);
    }
    if (block.out) flush(sum, block.out + g_at + receiver, g_stride, fresh, lane);
  }

  // Sums over the vectors first, then couples: the sums by lanes of all paths and tiles meet in block.y_sum.
  template <int NB, bool TAIL, bool SECOND>
  EQUIPOT_KERNEL static void gradient_y(Block<T>& block, const Path& path, int64_t k, int64_t n_lanes) {
    const Lanes<T, TAIL> lane(n_lanes);
    const Lanes<T, false> whole(0);
    const int64_t h_stride = path.n_channels, g_stride = path.out_stride;
    const T *h_base = block.h + path.h_start + k, *a_base = block.a + path.h_start + k;
    const int64_t w_at = path.w_start + k;
    const T* g_base = block.g + path.out_start + path.out_channel + k;
    V gv[D3][NB];
    int64_t receiver = -1;
    for (int e = 0; e < block.size; ++e) {
      const T *w = block.w[e] + w_at, *c = block.c[e] + w_at;
      if (block.receiver[e] != receiver) {
        receiver = block.receiver[e];
        load_rows(gv, g_base + receiver, g_stride, lane);
      }
      const T *h = h_base + block.sender[e], *a = a_base + (SECOND ? block.a_sender[e] : 0);
      V wv[NB], cv[NB], y_sum[D2] = {};
      EQUIPOT_UNROLL for (int b = 0; b < NB; ++b) {
        wv[b] = lane.load(w + b * lanes<T>);
        if (SECOND) cv[b] = lane.load(c + b * lanes<T>);
      }
      EQUIPOT_UNROLL for (int m1 = 0; m1 < D1; ++m1) {
        V x[NB];
        EQUIPOT_UNROLL for (int b = 0; b < NB; ++b) {
          x[b] = wv[b] * lane.load((SECOND ? a : h) + b * lanes<T>);
          if (SECOND) x[b] += cv[b] * lane.load(h + b * lanes<T>);
        }
        h += h_stride, a += h_stride;
        EQUIPOT_FORGET(h);
        EQUIPOT_FORGET(a);
        EQUIPOT_UNROLL for (int m3 = 0; m3 < D3; ++m3) {
          if (!pattern.on[m1][m3]) continue;
          V p = x[0] * gv[m3][0];
          EQUIPOT_UNROLL for (int b = 1; b < NB; ++b) p += x[b] * gv[m3][b];
          EQUIPOT_UNROLL for (int m2 = 0; m2 < D2; ++m2)
            if (C::c[m1][m2][m3] != 0) y_sum[m2] += broadcast(static_cast<T>(C::c[m1][m2][m3])) * p;
        }
      }
      EQUIPOT_UNROLL for (int m2 = 0; m2 < D2; ++m2) {
        T* p = block.y_sum[L2 * L2 + m2][e];
        whole.store(p, whole.load(p) + y_sum[m2]);
      }
    }
  }
};

}  // namespace EQUIPOT_NAMESPACE
