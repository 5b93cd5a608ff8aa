// Kernels of single atoms: small matrix products of rows, activations, and symmetric products as polynomials.
#pragma once

#include "activations.hpp"
#include "kernels.hpp"
#include "model.hpp"
#include "simd.hpp"

namespace EQUIPOT_NAMESPACE {

using eq::Polynomial;

// R rows times two vectors of columns of a panel; n_columns of them are wanted.
template <class T, int R>
EQUIPOT_INLINE void multiply_tile(const T* const* x, T* const* y, int64_t n_in, const T* w, int64_t n_columns, bool add) {
  constexpr int n = lanes<T>;
  const Lanes<T, false> whole(0);
  const Lanes<T, true> first(n_columns < n ? n_columns : n), second(n_columns < n ? 0 : n_columns - n);
  const bool full = n_columns == 2 * n;
  const T* from[R];
  EQUIPOT_UNROLL for (int r = 0; r < R; ++r) from[r] = x[r];
  Vec<T> sum[R][2];
  EQUIPOT_UNROLL for (int r = 0; r < R; ++r) sum[r][0] = sum[r][1] = Vec<T>{};
  for (int64_t k = 0; k < n_in; ++k, w += eq::panel<T>) {
    const Vec<T> w0 = whole.load(w), w1 = whole.load(w + n);
    EQUIPOT_UNROLL for (int r = 0; r < R; ++r) {
      const Vec<T> xv = broadcast(from[r][k]);
      sum[r][0] += xv * w0;
      sum[r][1] += xv * w1;
    }
  }
  EQUIPOT_UNROLL for (int r = 0; r < R; ++r) {
    T* to = y[r];
    if (full) {
      whole.store(to, add ? whole.load(to) + sum[r][0] : sum[r][0]);
      whole.store(to + n, add ? whole.load(to + n) + sum[r][1] : sum[r][1]);
    } else {
      first.store(to, add ? first.load(to) + sum[r][0] : sum[r][0]);
      if (n_columns > n) second.store(to + n, add ? second.load(to + n) + sum[r][1] : sum[r][1]);
    }
  }
}

template <class T, int R>
EQUIPOT_KERNEL void multiply_rows(const T* const* x, T* const* y, int64_t column, int64_t n_in, const T* w, int64_t n_columns, bool add) {
  T* to[R];
  EQUIPOT_UNROLL for (int r = 0; r < R; ++r) to[r] = y[r] + column;
  multiply_tile<T, R>(x, to, n_in, w, n_columns, add);
}

// Columns outside, rows inside: two vectors of columns of all k stay in the first-level cache.
template <class T>
void multiply(int64_t n_rows, const T* const* x, T* const* y, int64_t n_in, int64_t n_out, const T* w, bool add) {
  constexpr int wide = EQUIPOT_VECTOR_BYTES == 64 ? 8 : 4;
  constexpr int64_t columns = 2 * lanes<T>, panel = eq::panel<T>;
  for (int64_t c = 0; c < n_out; c += columns) {
    const T* from = w + c / panel * panel * n_in + c % panel;
    const int64_t n = n_out - c < columns ? n_out - c : columns;
    int64_t r = 0;
    for (; n_rows - r >= wide; r += wide) multiply_rows<T, wide>(x + r, y + r, c, n_in, from, n, add);
    for (; n_rows - r >= 2; r += 2) multiply_rows<T, 2>(x + r, y + r, c, n_in, from, n, add);
    for (; r < n_rows; ++r) multiply_rows<T, 1>(x + r, y + r, c, n_in, from, n, add);
  }
}

template <class T>
void activate(int act, int64_t n, const T* x, T factor, T* value, T* slope) {
  if (act != eq::act_silu && act != eq::act_tanh) {
    for (int64_t k = 0; k < n; ++k) {
      value[k] = factor * eq::activate(act, x[k]);
      if (slope) slope[k] = factor * eq::activate_slope(act, x[k]);
    }
    return;
  }
  const Vec<T> all = broadcast(factor);
  const auto some = [&](int64_t k, const auto& lane) {
    const Vec<T> xk = lane.load(x + k);
    const auto f = act == eq::act_silu ? silu<T>(xk) : tanh<T>(xk);
    lane.store(value + k, all * f.value);
    if (slope) lane.store(slope + k, all * f.first);
  };
  const int64_t whole = n / lanes<T> * lanes<T>;
  for (int64_t k = 0; k < whole; k += lanes<T>) some(k, Lanes<T, false>(0));
  if (whole < n) some(whole, Lanes<T, true>(n - whole));
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
  EQUIPOT_UNROLL for (int v = 0; v < vectors; ++v) c[v] = SINGLE ? broadcast(p[term]) : whole.load(p + term * eq::chunk<T> + v * lanes<T>);
}

// out = the polynomials of in.
template <class T, bool SINGLE>
EQUIPOT_INLINE void evaluate(const Polynomial<T>& poly, const T* c, Components<T>& in, Components<T>& out) {
  EQUIPOT_UNROLL for (int v = 0; v < vectors; ++v) in.of[poly.n_in][v] = broadcast(T(1));
  for (int m = 0; m < poly.n_out; ++m)
    EQUIPOT_UNROLL for (int v = 0; v < vectors; ++v) out.of[m][v] = Vec<T>{};
  for (int64_t n = 0; n < poly.n_monomials; ++n) {
    const int16_t* f = poly.factors + 3 * n;
    Vec<T> x[vectors], w[vectors];
    EQUIPOT_UNROLL for (int v = 0; v < vectors; ++v) x[v] = in.of[f[0]][v] * in.of[f[1]][v] * in.of[f[2]][v];
    for (int64_t t = poly.term_start[n]; t < poly.term_start[n + 1]; ++t) {
      load_coefficient<T, SINGLE>(w, c, t);
      EQUIPOT_UNROLL for (int v = 0; v < vectors; ++v) out.of[poly.term_out[t]][v] += w[v] * x[v];
    }
  }
}

// g_in = the derivative of <g_out, polynomials> by in.
template <class T, bool SINGLE>
EQUIPOT_INLINE void differentiate(const Polynomial<T>& poly, const T* c, Components<T>& in, const Components<T>& g_out, Components<T>& g_in) {
  EQUIPOT_UNROLL for (int v = 0; v < vectors; ++v) in.of[poly.n_in][v] = broadcast(T(1));
  for (int m = 0; m <= poly.n_in; ++m)
    EQUIPOT_UNROLL for (int v = 0; v < vectors; ++v) g_in.of[m][v] = Vec<T>{};
  for (int64_t n = 0; n < poly.n_monomials; ++n) {
    const int16_t* f = poly.factors + 3 * n;
    Vec<T> gx[vectors], w[vectors];
    EQUIPOT_UNROLL for (int v = 0; v < vectors; ++v) gx[v] = Vec<T>{};
    for (int64_t t = poly.term_start[n]; t < poly.term_start[n + 1]; ++t) {
      load_coefficient<T, SINGLE>(w, c, t);
      EQUIPOT_UNROLL for (int v = 0; v < vectors; ++v) gx[v] += w[v] * g_out.of[poly.term_out[t]][v];
    }
    EQUIPOT_UNROLL for (int v = 0; v < vectors; ++v) {
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
