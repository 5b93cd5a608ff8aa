// What the dispatcher calls of the linear maps: matrix products of one block (2l+1, K) of the rows of given atoms; private to the library.
#pragma once

#include <cstdint>

namespace equipot {

// Rows of some atoms: row (a, m) of the block at from + atoms[a] * stride + m * n_channels. `atoms` ascending in memory as the caller likes.
template <class T>
struct Rows {
  T* from;
  int64_t stride, n_channels;
};

template <class T>
struct Linear {
  // to[a, m, o] = sum_k from[a, m, k] w[k][o], w dense.
  void (*multiply)(const Rows<const T>& from, const Rows<T>& to, const int64_t* atoms, int64_t n_atoms, int64_t dim, const T* w);
  // to[o][k] = w[k][o]; w of k_in rows and k_out columns.
  void (*transpose)(const T* w, int64_t k_in, int64_t k_out, T* to);
  // gw[k][o] = sum_{a, m} x[a, m, k] g[a, m, o] of columns first <= o < last, in the order of the atoms.
  void (*outer)(const Rows<const T>& x, const Rows<const T>& g, const int64_t* atoms, int64_t n_atoms, int64_t dim, T* gw, int64_t first,
                int64_t last);
  // to[i] = sum_p parts[p * stride + i] for i < n, in the order of p; n_parts >= 1.
  void (*sum_parts)(const T* parts, int64_t n_parts, int64_t stride, int64_t n, T* to);
};

}  // namespace equipot
