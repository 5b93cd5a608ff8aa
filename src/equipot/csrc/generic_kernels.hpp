// The kernels of one path of any degrees, with sums over m as loops over the sparse coefficients; same sums as in path_kernels.hpp.
#pragma once

#include "block.hpp"

namespace EQUIPOT_NAMESPACE {

template <class T>
struct GenericKernel {
  using V = Vec<T>;
  using Lane = Lanes<T, true>;

  EQUIPOT_KERNEL static void couple(const Path& path, const T (*y)[block_edges], T (*m)[block_edges]) {
    std::memset(m, 0, sizeof m[0] * path.d1() * path.d3());
    for (int64_t i = 0; i < path.n_coefficients; ++i) {
      const auto& x = path.coefficients[i];
      T* to = m[x.m1 * path.d3() + x.m3];
      const T* from = y[path.y_start() + x.m2];
      for (int e = 0; e < block_edges; ++e) to[e] += static_cast<T>(x.value) * from[e];
    }
  }

  static void load_rows(V* to, int d, const T* p, int64_t stride, const Lane& lane) {
    for (int m = 0; m < d; ++m) to[m] = lane.load(p + m * stride);
  }

  static void put(V x, T* p, bool fresh, const Lane& lane) { lane.store(p, fresh ? x : lane.load(p) + x); }

  static void flush(V* sum, int d, T* p, int64_t stride, bool fresh, const Lane& lane) {
    for (int m = 0; m < d; ++m) {
      put(sum[m], p + m * stride, fresh, lane);
      sum[m] = V{};
    }
  }

  EQUIPOT_KERNEL static void forward(Block<T>& block, const Path& path, int64_t k, int64_t n_lanes) {
    const Lane lane(n_lanes);
    const int d1 = path.d1(), d3 = path.d3();
    T* out = block.out + path.out_start + path.out_channel + k;
    V sum[max_d] = {};
    int64_t receiver = block.receiver[0];
    bool fresh = block.fresh;
    for (int e = 0; e < block.size; ++e) {
      if (block.receiver[e] != receiver) {
        flush(sum, d3, out + receiver, path.out_stride, fresh, lane);
        receiver = block.receiver[e], fresh = true;
      }
      const T* h = block.h + block.sender[e] + path.h_start + k;
      const V w = lane.load(block.w[e] + path.w_start + k);
      for (int m1 = 0; m1 < d1; ++m1) {
        const V x = w * lane.load(h + m1 * path.n_channels);
        for (int m3 = 0; m3 < d3; ++m3) sum[m3] += broadcast(block.m[m1 * d3 + m3][e]) * x;
      }
    }
    flush(sum, d3, out + receiver, path.out_stride, fresh, lane);
  }

  EQUIPOT_KERNEL static void backward(Block<T>& block, const Path& path, int64_t k, int64_t n_lanes) {
    const Lane lane(n_lanes);
    const int d1 = path.d1(), d3 = path.d3();
    for (int e = 0; e < block.size; ++e) {
      V g[max_d], gw{};
      load_rows(g, d3, block.g + block.receiver[e] + path.out_start + path.out_channel + k, path.out_stride, lane);
      const T* h = block.h + block.sender[e] + path.h_start + k;
      const V w = lane.load(block.w[e] + path.w_start + k);
      for (int m1 = 0; m1 < d1; ++m1) {
        V u{};
        for (int m3 = 0; m3 < d3; ++m3) u += broadcast(block.m[m1 * d3 + m3][e]) * g[m3];
        gw += u * lane.load(h + m1 * path.n_channels);
        if (block.gh) put(w * u, block.gh + e * block.h_stride + path.h_start + k + m1 * path.n_channels, path.first_of_h, lane);
      }
      if (block.with_gw) put(gw, block.gw[e] + path.w_start + k, true, lane);
    }
  }

  EQUIPOT_KERNEL static void double_backward(Block<T>& block, const Path& path, int64_t k, int64_t n_lanes) {
    const Lane lane(n_lanes);
    const int d1 = path.d1(), d3 = path.d3();
    const int64_t g_at = path.out_start + path.out_channel + k;
    V sum[max_d] = {};
    int64_t receiver = block.receiver[0];
    bool fresh = block.fresh;
    for (int e = 0; e < block.size; ++e) {
      if (block.receiver[e] != receiver) {
        if (block.out) flush(sum, d3, block.out + g_at + receiver, path.out_stride, fresh, lane);
        receiver = block.receiver[e], fresh = true;
      }
      V g[max_d], gw{};
      load_rows(g, d3, block.g + g_at + receiver, path.out_stride, lane);
      const V w = lane.load(block.w[e] + path.w_start + k), c = lane.load(block.c[e] + path.w_start + k);
      for (int m1 = 0; m1 < d1; ++m1) {
        const int64_t at = path.h_start + k + m1 * path.n_channels;
        const V h = lane.load(block.h + block.sender[e] + at), a = lane.load(block.a + block.a_sender[e] + at), q = w * h, s = w * a + c * h;
        V u{}, v{};
        for (int m3 = 0; m3 < d3; ++m3) {
          const V m = broadcast(block.m[m1 * d3 + m3][e]), n = broadcast(block.n[m1 * d3 + m3][e]);
          u += m * g[m3];
          v += n * g[m3];
          sum[m3] += m * s;
          sum[m3] += n * q;
        }
        gw += u * a;
        gw += v * h;
        if (block.gh) put(c * u + w * v, block.gh + e * block.h_stride + at, path.first_of_h, lane);
      }
      if (block.with_gw) put(gw, block.gw[e] + path.w_start + k, true, lane);
    }
    if (block.out) flush(sum, d3, block.out + g_at + receiver, path.out_stride, fresh, lane);
  }

  template <bool SECOND>
  EQUIPOT_KERNEL static void gradient_y(Block<T>& block, const Path& path, int64_t k, int64_t n_lanes) {
    const Lane lane(n_lanes);
    const Lanes<T, false> whole(0);
    for (int e = 0; e < block.size; ++e) {
      V g[max_d], x[max_d], y_sum[max_d] = {};
      load_rows(g, path.d3(), block.g + block.receiver[e] + path.out_start + path.out_channel + k, path.out_stride, lane);
      const V w = lane.load(block.w[e] + path.w_start + k), c = lane.load(block.c[e] + path.w_start + k);
      for (int m1 = 0; m1 < path.d1(); ++m1) {
        const int64_t at = path.h_start + k + m1 * path.n_channels;
        const V h = lane.load(block.h + block.sender[e] + at);
        x[m1] = SECOND ? w * lane.load(block.a + block.a_sender[e] + at) + c * h : w * h;
      }
      for (int64_t i = 0; i < path.n_coefficients; ++i) {
        const auto& p = path.coefficients[i];
        y_sum[p.m2] += broadcast(static_cast<T>(p.value)) * (x[p.m1] * g[p.m3]);
      }
      for (int m2 = 0; m2 < path.d2(); ++m2) {
        T* p = block.y_sum[path.y_start() + m2][e];
        whole.store(p, whole.load(p) + y_sum[m2]);
      }
    }
  }
};

}  // namespace EQUIPOT_NAMESPACE
