// Rows of edges turned into vectors of edges and back; included inside a translation unit of one instruction set.
#pragma once

#include "simd.hpp"

namespace EQUIPOT_NAMESPACE {

// to[j] = column j of the first n rows; lanes beyond n are 0.
template <class T>
EQUIPOT_INLINE void read_columns(const T* rows, int64_t stride, int n_columns, int n, Vec<T>* to) {
  if (n < lanes<T>) std::memset(to, 0, n_columns * sizeof *to);
  for (int e = 0; e < n; ++e)
    for (int j = 0; j < n_columns; ++j) reinterpret_cast<T*>(to + j)[e] = rows[e * stride + j];
}

template <class T>
EQUIPOT_INLINE void write_columns(const Vec<T>* from, int64_t stride, int n_columns, int n, T* rows) {
  for (int e = 0; e < n; ++e)
    for (int j = 0; j < n_columns; ++j) rows[e * stride + j] = reinterpret_cast<const T*>(from + j)[e];
}

}  // namespace EQUIPOT_NAMESPACE
