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

template <class T, bool SINGLE>
EQUIPOT_INLINE void load_coefficient(Vec<T> (&c)[vectors], const T* p, int64_t term) {
  const Lanes<T, false> whole(0);
  for (int v = 0; v < vectors; ++v) c[v] = SINGLE ? broadcast(p[term]) : whole.load(p + term * eq::chunk<T> + v * lanes<T>);
}

// out = the polynomials of in.
template <class T, bool SINGLE>
EQUIPOT_INLINE void evaluate(const Polynomial<T>& poly, const T* c, Components<T>& in, Components<T>& out) {
  for (int v = 0; v < vectors; ++v) in.of[poly.n_in][v] = broadcast(T(1));
  for (int m = 0; m < poly.n_out; ++m)
    for (int v = 0; v < vectors; ++v) out.of[m][v] = Vec<T>{};
  for (int64_t n = 0; n < poly.n_monomials; ++n) {
    const int16_t* f = poly.factors + 3 * n;
    Vec<T> x[vectors], w[vectors];
    for (int v = 0; v < vectors; ++v) x[v] = in.of[f[0]][v] * in.of[f[1]][v] * in.of[f[2]][v];
    for (int64_t t = poly.term_start[n]; t < poly.term_start[n + 1]; ++t) {
      load_coefficient<T, SINGLE>(w, c, t);
      for (int v = 0; v < vectors; ++v) out.of[poly.term_out[t]][v] += w[v] * x[v];
    }
  }
}

// g_in = the derivative of <g_out, polynomials> by in.
template <class T, bool SINGLE>
EQUIPOT_INLINE void differentiate(const Polynomial<T>& poly, const T* c, Components<T>& in, const Components<T>& g_out, Components<T>& g_in) {
  for (int v = 0; v < vectors; ++v) in.of[poly.n_in][v] = broadcast(T(1));
  for (int m = 0; m <= poly.n_in; ++m)
    for (int v = 0; v < vectors; ++v) g_in.of[m][v] = Vec<T>{};
  for (int64_t n = 0; n < poly.n_monomials; ++n) {
    const int16_t* f = poly.factors + 3 * n;
    Vec<T> gx[vectors], w[vectors];
    for (int v = 0; v < vectors; ++v) gx[v] = Vec<T>{};
    for (int64_t t = poly.term_start[n]; t < poly.term_start[n + 1]; ++t) {
      load_coefficient<T, SINGLE>(w, c, t);
      for (int v = 0; v < vectors; ++v) gx[v] += w[v] * g_out.of[poly.term_out[t]][v];
    }
    for (int v = 0; v < vectors; ++v) {
      const Vec<T> x0 = in.of[f[0]][v], x1 = in.of[f[1]][v], x2 = in.of[f[2]][v], g0 = gx[v] * x0;
      g_in.of[f[0]][v] += gx[v] * x1 * x2;
      g_in.of[f[1]][v] += g0 * x2;
      g_in.of[f[2]][v] += g0 * x1;
    }
  }
}

// Up to a chunk of atoms of one element; returns how many, and where the search for the next goes on. `at` is the first atom not looked at.
template <class T>
EQUIPOT_INLINE int pick_atoms(const Polynomial<T>& poly, int64_t n_atoms, const int32_t* types, int element, int64_t& at, int64_t* picked) {
  int n = 0;
  for (; at < n_atoms && n < eq::chunk<T>; ++at)
    if (!poly.per_element || types[at] == element) picked[n++] = at;
  return n;
}

template <class T>
EQUIPOT_INLINE void load_atoms(Components<T>& to, const T* rows, int n, const int64_t* picked, int n_picked) {
  for (int m = 0; m < n; ++m) {
    T part[eq::chunk<T>] = {};
    for (int i = 0; i < n_picked; ++i) part[i] = rows[picked[i] * n + m];
    std::memcpy(to.of[m], part, sizeof part);
  }
}

template <class T>
EQUIPOT_INLINE void store_atoms(const Components<T>& from, T* rows, int n, const int64_t* picked, int n_picked) {
  for (int m = 0; m < n; ++m) {
    T part[eq::chunk<T>];
    std::memcpy(part, from.of[m], sizeof part);
    for (int i = 0; i < n_picked; ++i) rows[picked[i] * n + m] = part[i];
  }
}

// Both directions of a single channel, chunks of atoms.
template <class T, bool BACKWARD>
void product_single(const Polynomial<T>& poly, int64_t n_atoms, const int32_t* types, const T* a, const T* gb, T* to) {
  Components<T> in, g_in, out;
  int64_t picked[eq::chunk<T>];
  for (int z = 0; z < (poly.per_element ? poly.n_elements : 1); ++z)
    for (int64_t at = 0; at < n_atoms;) {
      const int n = pick_atoms(poly, n_atoms, types, z, at, picked);
      if (n == 0) continue;
      const T* c = poly.coefficients + z * poly.set_size;
      load_atoms(in, a, poly.n_in, picked, n);
      if (BACKWARD) {
        load_atoms(out, gb, poly.n_out, picked, n);
        differentiate<T, true>(poly, c, in, out, g_in);
        store_atoms(g_in, to, poly.n_in, picked, n);
      } else {
        evaluate<T, true>(poly, c, in, out);
        store_atoms(out, to, poly.n_out, picked, n);
      }
    }
}

template <class T>
void product(const Polynomial<T>& poly, int64_t n_atoms, const int32_t* types, const T* a, T* b) {
  if (poly.n_channels == 1) return product_single<T, false>(poly, n_atoms, types, a, nullptr, b);
  constexpr int64_t chunk = eq::chunk<T>;
  const int64_t n_chunks = (poly.n_channels + chunk - 1) / chunk;
  Components<T> in, out;
  for (int64_t i = 0; i < n_atoms; ++i)
    for (int64_t q = 0; q < n_chunks; ++q) {
      load_components(in, a + i * poly.n_in * poly.n_channels, poly.n_in, poly.n_channels, q * chunk, poly.n_channels);
      evaluate<T, false>(poly, poly.coefficients + (poly.per_element ? types[i] : 0) * poly.set_size + q * poly.n_terms * chunk, in, out);
      store_components(out, b + i * poly.n_out * poly.n_channels, poly.n_out, poly.n_channels, q * chunk, poly.n_channels);
    }
}

template <class T>
void product_back(const Polynomial<T>& poly, int64_t n_atoms, const int32_t* types, const T* a, const T* gb, T* ga) {
  if (poly.n_channels == 1) return product_single<T, true>(poly, n_atoms, types, a, gb, ga);
  constexpr int64_t chunk = eq::chunk<T>;
  const int64_t n_chunks = (poly.n_channels + chunk - 1) / chunk;
  Components<T> in, g_in, g_out;
  for (int64_t i = 0; i < n_atoms; ++i)
    for (int64_t q = 0; q < n_chunks; ++q) {
      load_components(in, a + i * poly.n_in * poly.n_channels, poly.n_in, poly.n_channels, q * chunk, poly.n_channels);
      load_components(g_out, gb + i * poly.n_out * poly.n_channels, poly.n_out, poly.n_channels, q * chunk, poly.n_channels);
      const T* c = poly.coefficients + (poly.per_element ? types[i] : 0) * poly.set_size + q * poly.n_terms * chunk;
      differentiate<T, false>(poly, c, in, g_out, g_in);
      store_components(g_in, ga + i * poly.n_in * poly.n_channels, poly.n_in, poly.n_channels, q * chunk, poly.n_channels);
    }
}

}  // namespace EQUIPOT_NAMESPACE
