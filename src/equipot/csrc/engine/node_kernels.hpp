// Kernels of single atoms: small matrix products of rows, and symmetric products as polynomials.
#pragma once

#include "kernels.hpp"
#include "simd.hpp"

namespace EQUIPOT_NAMESPACE {

using eq::Polynomial;

// R rows times NB vectors of columns from column c.
template <class T, int R, int NB, bool TAIL>
EQUIPOT_INLINE void multiply_tile(const T* const* x, T* const* y, int64_t n_in, int64_t n_out, const T* w, int64_t c, int64_t n_lanes, bool add) {
  const Lanes<T, TAIL> lane(n_lanes);
  Vec<T> sum[R][NB];
  for (int r = 0; r < R; ++r)
    for (int b = 0; b < NB; ++b) sum[r][b] = add ? lane.load(y[r] + c + b * lanes<T>) : Vec<T>{};
  for (int64_t k = 0; k < n_in; ++k) {
    Vec<T> wv[NB];
    for (int b = 0; b < NB; ++b) wv[b] = lane.load(w + k * n_out + c + b * lanes<T>);
    for (int r = 0; r < R; ++r) {
      const Vec<T> xv = broadcast(x[r][k]);
      for (int b = 0; b < NB; ++b) sum[r][b] += xv * wv[b];
    }
  }
  for (int r = 0; r < R; ++r)
    for (int b = 0; b < NB; ++b) lane.store(y[r] + c + b * lanes<T>, sum[r][b]);
}

template <class T, int R>
EQUIPOT_KERNEL void multiply_rows(const T* const* x, T* const* y, int64_t n_in, int64_t n_out, const T* w, bool add) {
  int64_t c = 0;
  for (; n_out - c >= 2 * lanes<T>; c += 2 * lanes<T>) multiply_tile<T, R, 2, false>(x, y, n_in, n_out, w, c, 0, add);
  for (; n_out - c >= lanes<T>; c += lanes<T>) multiply_tile<T, R, 1, false>(x, y, n_in, n_out, w, c, 0, add);
  if (c < n_out) multiply_tile<T, R, 1, true>(x, y, n_in, n_out, w, c, n_out - c, add);
}

template <class T>
void multiply(int64_t n_rows, const T* const* x, T* const* y, int64_t n_in, int64_t n_out, const T* w, bool add) {
  int64_t r = 0;
  for (; n_rows - r >= 6; r += 6) multiply_rows<T, 6>(x + r, y + r, n_in, n_out, w, add);
  for (; n_rows - r >= 3; r += 3) multiply_rows<T, 3>(x + r, y + r, n_in, n_out, w, add);
  for (; r < n_rows; ++r) multiply_rows<T, 1>(x + r, y + r, n_in, n_out, w, add);
}

// One chunk of channels of an atom: a and ga have a further component, 1 and a place for what belongs to it.
constexpr int vectors = 64 / EQUIPOT_VECTOR_BYTES;
template <class T>
struct Components {
  Vec<T> of[eq::max_components + 1][vectors];
};

template <class T>
EQUIPOT_INLINE void load_components(Components<T>& to, const T* row, int n, int64_t stride, int64_t k, int64_t n_channels) {
  constexpr int64_t chunk = eq::chunk<T>;
  const int64_t size = (n_channels - k < chunk ? n_channels - k : chunk) * static_cast<int64_t>(sizeof(T));
  for (int m = 0; m < n; ++m) {
    T part[chunk] = {};
    std::memcpy(part, row + m * stride + k, size);
    std::memcpy(to.of[m], part, sizeof part);
  }
}

template <class T>
EQUIPOT_INLINE void store_components(const Components<T>& from, T* row, int n, int64_t stride, int64_t k, int64_t n_channels) {
  constexpr int64_t chunk = eq::chunk<T>;
  const int64_t size = (n_channels - k < chunk ? n_channels - k : chunk) * static_cast<int64_t>(sizeof(T));
  for (int m = 0; m < n; ++m) std::memcpy(row + m * stride + k, from.of[m], size);
}

template <class T>
EQUIPOT_INLINE void load_coefficient(Vec<T> (&c)[vectors], const T* p) {
  const Lanes<T, false> whole(0);
  for (int v = 0; v < vectors; ++v) c[v] = whole.load(p + v * lanes<T>);
}

template <class T>
void product(const Polynomial<T>& poly, int64_t n_atoms, const int32_t* types, const T* a, T* b) {
  constexpr int64_t chunk = eq::chunk<T>;
  const int64_t n_chunks = (poly.n_channels + chunk - 1) / chunk;
  Components<T> in, out;
  for (int64_t i = 0; i < n_atoms; ++i)
    for (int64_t q = 0; q < n_chunks; ++q) {
      load_components(in, a + i * poly.n_in * poly.n_channels, poly.n_in, poly.n_channels, q * chunk, poly.n_channels);
      for (int v = 0; v < vectors; ++v) in.of[poly.n_in][v] = broadcast(T(1));
      for (int m = 0; m < poly.n_out; ++m)
        for (int v = 0; v < vectors; ++v) out.of[m][v] = Vec<T>{};
      const T* c = poly.coefficients + (poly.per_element ? types[i] : 0) * poly.set_size + q * poly.n_terms * chunk;
      for (int64_t n = 0; n < poly.n_monomials; ++n) {
        const int16_t* f = poly.factors + 3 * n;
        Vec<T> x[vectors], w[vectors];
        for (int v = 0; v < vectors; ++v) x[v] = in.of[f[0]][v] * in.of[f[1]][v] * in.of[f[2]][v];
        for (int64_t t = poly.term_start[n]; t < poly.term_start[n + 1]; ++t) {
          load_coefficient<T>(w, c + t * chunk);
          for (int v = 0; v < vectors; ++v) out.of[poly.term_out[t]][v] += w[v] * x[v];
        }
      }
      store_components(out, b + i * poly.n_out * poly.n_channels, poly.n_out, poly.n_channels, q * chunk, poly.n_channels);
    }
}

template <class T>
void product_back(const Polynomial<T>& poly, int64_t n_atoms, const int32_t* types, const T* a, const T* gb, T* ga) {
  constexpr int64_t chunk = eq::chunk<T>;
  const int64_t n_chunks = (poly.n_channels + chunk - 1) / chunk;
  Components<T> in, g_in, g_out;
  for (int64_t i = 0; i < n_atoms; ++i)
    for (int64_t q = 0; q < n_chunks; ++q) {
      load_components(in, a + i * poly.n_in * poly.n_channels, poly.n_in, poly.n_channels, q * chunk, poly.n_channels);
      load_components(g_out, gb + i * poly.n_out * poly.n_channels, poly.n_out, poly.n_channels, q * chunk, poly.n_channels);
      for (int v = 0; v < vectors; ++v) in.of[poly.n_in][v] = broadcast(T(1));
      for (int m = 0; m <= poly.n_in; ++m)
        for (int v = 0; v < vectors; ++v) g_in.of[m][v] = Vec<T>{};
      const T* c = poly.coefficients + (poly.per_element ? types[i] : 0) * poly.set_size + q * poly.n_terms * chunk;
      for (int64_t n = 0; n < poly.n_monomials; ++n) {
        const int16_t* f = poly.factors + 3 * n;
        Vec<T> gx[vectors], w[vectors];
        for (int v = 0; v < vectors; ++v) gx[v] = Vec<T>{};
        for (int64_t t = poly.term_start[n]; t < poly.term_start[n + 1]; ++t) {
          load_coefficient<T>(w, c + t * chunk);
          for (int v = 0; v < vectors; ++v) gx[v] += w[v] * g_out.of[poly.term_out[t]][v];
        }
        for (int v = 0; v < vectors; ++v) {
          const Vec<T> x0 = in.of[f[0]][v], x1 = in.of[f[1]][v], x2 = in.of[f[2]][v], g0 = gx[v] * x0;
          g_in.of[f[0]][v] += gx[v] * x1 * x2;
          g_in.of[f[1]][v] += g0 * x2;
          g_in.of[f[2]][v] += g0 * x1;
        }
      }
      store_components(g_in, ga + i * poly.n_in * poly.n_channels, poly.n_in, poly.n_channels, q * chunk, poly.n_channels);
    }
}

}  // namespace EQUIPOT_NAMESPACE
