// The kernels of one path, specialised for its degrees: sums over m unrolled, coefficients constant, accumulators in registers.
//
// Each runs over the edges of a block for NB vectors of channels at once (or for one vector with some lanes off). With M = sum_m2 C Y and
// N = sum_m2 C b of the block, per edge and channel:
//   forward           A[m3] += sum_m1 M (w h[m1])
//   backward          u[m1] = sum_m3 M g[m3];  gw = sum_m1 u h;  gh[m1] += w u;  gy[m2] += C (w h[m1]) g[m3]
//   double backward   s = w a + c h, q = w h, v[m1] = sum_m3 N g[m3];
//                     dg[m3] += M s + N q;  dw = sum_m1 a u + h v;  dh[m1] += c u + w v;  dy[m2] += C s[m1] g[m3]
// A is summed in registers while the receiver stays the same.
#pragma once

#include "block.hpp"
#include "coupling_constants.h"

namespace EQUIPOT_NAMESPACE {

template <int N>
using Int = std::integral_constant<int, N>;

template <class T, int L1, int L2, int L3>
struct PathKernel {
  static constexpr int D1 = 2 * L1 + 1, D2 = 2 * L2 + 1, D3 = 2 * L3 + 1;
  using V = Vec<T>;

  static constexpr double c(int m1, int m2, int m3) { return Coupling<L1, L2, L3>::c[m1][m2][m3]; }
  static constexpr bool couples(int m1, int m3) {
    for (int m2 = 0; m2 < D2; ++m2)
      if (c(m1, m2, m3) != 0) return true;
    return false;
  }

  // m[m1 * D3 + m3] = sum_m2 C y[m2], for all edges of the block; entries that are always 0 are not written.
  static void couple(const T (*y)[block_edges], T (*m)[block_edges]) {
    const Lanes<T, false> lane(0);
    for (int e = 0; e < block_edges; e += lanes<T>)
      unroll<D1>([&](auto m1) EQUIPOT_LAMBDA {
        unroll<D3>([&](auto m3) EQUIPOT_LAMBDA {
          if constexpr (couples(m1, m3)) {
            V x{};
            unroll<D2>([&](auto m2) EQUIPOT_LAMBDA {
              constexpr double value = c(m1, m2, m3);
              if constexpr (value != 0) x += broadcast(static_cast<T>(value)) * lane.load(&y[m2][e]);
            });
            lane.store(&m[m1 * D3 + m3][e], x);
          }
        });
      });
  }

  // Adds the accumulators of one receiver to its row and clears them.
  template <int NB, bool TAIL>
  static EQUIPOT_INLINE void flush(V (&sum)[D3][NB], T* out, int64_t stride, const Lanes<T, TAIL>& lane) {
    unroll<D3>([&](auto m3) EQUIPOT_LAMBDA {
      unroll<NB>([&](auto b) EQUIPOT_LAMBDA {
        T* p = out + m3 * stride + b * lanes<T>;
        lane.store(p, lane.load(p) + sum[m3][b]);
        sum[m3][b] = V{};
      });
    });
  }

  template <int NB, bool TAIL>
  static void forward_tile(Block<T>& block, const Path& path, int64_t k, int64_t n_lanes) {
    const Lanes<T, TAIL> lane(n_lanes);
    const int64_t h_stride = path.n_channels, out_at = path.out_start + path.out_channel + k;
    V sum[D3][NB] = {};
    T* out = block.out[0];
    for (int e = 0; e < block.size; ++e) {
      if (block.out[e] != out) {
        flush<NB, TAIL>(sum, out + out_at, path.out_stride, lane);
        out = block.out[e];
      }
      const T* h = block.h[e] + path.h_start + k;
      const T* w = block.w[e] + path.w_start + k;
      if constexpr (D3 < D1) {  // weight the result, which is smaller than h
        V x[D3][NB] = {};
        unroll<D1>([&](auto m1) EQUIPOT_LAMBDA {
          V hv[NB];
          unroll<NB>([&](auto b) EQUIPOT_LAMBDA { hv[b] = lane.load(h + m1 * h_stride + b * lanes<T>); });
          unroll<D3>([&](auto m3) EQUIPOT_LAMBDA {
            if constexpr (couples(m1, m3)) {
              const V m = broadcast(block.m[m1 * D3 + m3][e]);
              unroll<NB>([&](auto b) EQUIPOT_LAMBDA { x[m3][b] += m * hv[b]; });
            }
          });
        });
        unroll<NB>([&](auto b) EQUIPOT_LAMBDA {
          const V wv = lane.load(w + b * lanes<T>);
          unroll<D3>([&](auto m3) EQUIPOT_LAMBDA { sum[m3][b] += wv * x[m3][b]; });
        });
      } else {
        V wv[NB];
        unroll<NB>([&](auto b) EQUIPOT_LAMBDA { wv[b] = lane.load(w + b * lanes<T>); });
        unroll<D1>([&](auto m1) EQUIPOT_LAMBDA {
          V x[NB];
          unroll<NB>([&](auto b) EQUIPOT_LAMBDA { x[b] = wv[b] * lane.load(h + m1 * h_stride + b * lanes<T>); });
          unroll<D3>([&](auto m3) EQUIPOT_LAMBDA {
            if constexpr (couples(m1, m3)) {
              const V m = broadcast(block.m[m1 * D3 + m3][e]);
              unroll<NB>([&](auto b) EQUIPOT_LAMBDA { sum[m3][b] += m * x[b]; });
            }
          });
        });
      }
    }
    flush<NB, TAIL>(sum, out + out_at, path.out_stride, lane);
  }

  // y_sum[m2] += sum over the vectors of x · g, coupled; the channels are summed before the coupling.
  template <int NB>
  static EQUIPOT_INLINE void add_y(V (&y_sum)[D2], const V (&x)[NB], const V (&g)[NB], auto m1, auto m3) {
    V product = x[0] * g[0];
    if constexpr (NB > 1) product += x[1] * g[1];
    unroll<D2>([&](auto m2) EQUIPOT_LAMBDA {
      constexpr double value = c(m1, m2, m3);
      if constexpr (value != 0) y_sum[m2] += broadcast(static_cast<T>(value)) * product;
    });
  }

  template <int NB, bool TAIL, bool Y>
  static void backward_tile(Block<T>& block, const Path& path, int64_t k, int64_t n_lanes) {
    const Lanes<T, TAIL> lane(n_lanes);
    const Lanes<T, false> whole(0);
    const int64_t h_stride = path.n_channels, h_at = path.h_start + k, w_at = path.w_start + k, g_stride = path.out_stride;
    for (int e = 0; e < block.size; ++e) {
      const T* h = block.h[e] + h_at;
      const T* w = block.w[e] + w_at;
      const T* g = block.g[e] + path.out_start + path.out_channel + k;
      T* gh = block.gh[e] ? block.gh[e] + h_at : nullptr;
      V wv[NB], gw[NB] = {}, y_sum[D2] = {};
      unroll<NB>([&](auto b) EQUIPOT_LAMBDA { wv[b] = lane.load(w + b * lanes<T>); });
      unroll<D1>([&](auto m1) EQUIPOT_LAMBDA {
        V hv[NB], x[NB], u[NB] = {};
        unroll<NB>([&](auto b) EQUIPOT_LAMBDA {
          hv[b] = lane.load(h + m1 * h_stride + b * lanes<T>);
          x[b] = wv[b] * hv[b];
        });
        unroll<D3>([&](auto m3) EQUIPOT_LAMBDA {
          if constexpr (couples(m1, m3)) {
            const V m = broadcast(block.m[m1 * D3 + m3][e]);
            V gv[NB];
            unroll<NB>([&](auto b) EQUIPOT_LAMBDA {
              gv[b] = lane.load(g + m3 * g_stride + b * lanes<T>);
              u[b] += m * gv[b];
            });
            if constexpr (Y) add_y<NB>(y_sum, x, gv, m1, m3);
          }
        });
        unroll<NB>([&](auto b) EQUIPOT_LAMBDA { gw[b] += u[b] * hv[b]; });
        if (gh)
          unroll<NB>([&](auto b) EQUIPOT_LAMBDA {
            T* p = gh + m1 * h_stride + b * lanes<T>;
            lane.store(p, lane.load(p) + wv[b] * u[b]);
          });
      });
      if (block.gw[e]) unroll<NB>([&](auto b) EQUIPOT_LAMBDA { lane.store(block.gw[e] + w_at + b * lanes<T>, gw[b]); });
      if constexpr (Y)
        unroll<D2>([&](auto m2) EQUIPOT_LAMBDA {
          T* p = block.y_sum[L2 * L2 + m2][e];
          whole.store(p, whole.load(p) + y_sum[m2]);
        });
    }
  }

  template <int NB, bool TAIL, bool Y>
  static void double_backward_tile(Block<T>& block, const Path& path, int64_t k, int64_t n_lanes) {
    const Lanes<T, TAIL> lane(n_lanes);
    const Lanes<T, false> whole(0);
    const int64_t h_stride = path.n_channels, h_at = path.h_start + k, w_at = path.w_start + k;
    const int64_t g_stride = path.out_stride, g_at = path.out_start + path.out_channel + k;
    V sum[D3][NB] = {};
    T* out = block.out[0];
    for (int e = 0; e < block.size; ++e) {
      if (block.out[e] != out) {
        if (out) flush<NB, TAIL>(sum, out + g_at, g_stride, lane);
        out = block.out[e];
      }
      const T *h = block.h[e] + h_at, *a = block.a[e] + h_at, *w = block.w[e] + w_at, *c = block.c[e] + w_at, *g = block.g[e] + g_at;
      T* gh = block.gh[e] ? block.gh[e] + h_at : nullptr;
      V wv[NB], cv[NB], gw[NB] = {}, y_sum[D2] = {};
      unroll<NB>([&](auto b) EQUIPOT_LAMBDA {
        wv[b] = lane.load(w + b * lanes<T>);
        cv[b] = lane.load(c + b * lanes<T>);
      });
      unroll<D1>([&](auto m1) EQUIPOT_LAMBDA {
        V hv[NB], av[NB], s[NB], q[NB], u[NB] = {}, v[NB] = {};
        unroll<NB>([&](auto b) EQUIPOT_LAMBDA {
          hv[b] = lane.load(h + m1 * h_stride + b * lanes<T>);
          av[b] = lane.load(a + m1 * h_stride + b * lanes<T>);
          q[b] = wv[b] * hv[b];
          s[b] = wv[b] * av[b] + cv[b] * hv[b];
        });
        unroll<D3>([&](auto m3) EQUIPOT_LAMBDA {
          if constexpr (couples(m1, m3)) {
            const V m = broadcast(block.m[m1 * D3 + m3][e]), n = broadcast(block.n[m1 * D3 + m3][e]);
            V gv[NB];
            unroll<NB>([&](auto b) EQUIPOT_LAMBDA {
              gv[b] = lane.load(g + m3 * g_stride + b * lanes<T>);
              u[b] += m * gv[b];
              v[b] += n * gv[b];
              sum[m3][b] += m * s[b];
              sum[m3][b] += n * q[b];
            });
            if constexpr (Y) add_y<NB>(y_sum, s, gv, m1, m3);
          }
        });
        unroll<NB>([&](auto b) EQUIPOT_LAMBDA {
          gw[b] += u[b] * av[b];
          gw[b] += v[b] * hv[b];
        });
        if (gh)
          unroll<NB>([&](auto b) EQUIPOT_LAMBDA {
            T* p = gh + m1 * h_stride + b * lanes<T>;
            lane.store(p, lane.load(p) + cv[b] * u[b] + wv[b] * v[b]);
          });
      });
      if (block.gw[e]) unroll<NB>([&](auto b) EQUIPOT_LAMBDA { lane.store(block.gw[e] + w_at + b * lanes<T>, gw[b]); });
      if constexpr (Y)
        unroll<D2>([&](auto m2) EQUIPOT_LAMBDA {
          T* p = block.y_sum[L2 * L2 + m2][e];
          whole.store(p, whole.load(p) + y_sum[m2]);
        });
    }
    if (out) flush<NB, TAIL>(sum, out + g_at, g_stride, lane);
  }
};

}  // namespace EQUIPOT_NAMESPACE
