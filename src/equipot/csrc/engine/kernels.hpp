// The table of kernels, one per instruction set, and what they work on. Private to the library.
//
// Edge e goes from sender[e] = j to the centre i with start[i] <= e < start[i+1]. A feature row is blocks (2l+1, K), channels fastest.
#pragma once

#include <cstdint>

#include "plan.hpp"

namespace eq {

constexpr int max_l = 8;
constexpr int max_components = 2048;  // of A or B in a product, one channel
template <class T>
constexpr int64_t chunk = 64 / static_cast<int64_t>(sizeof(T));  // channels, or atoms, whose polynomials are evaluated together

// Matrices are kept in panels of this many columns, each (n_in, panel), the last one filled up with zeros.
template <class T>
constexpr int64_t panel = 128 / static_cast<int64_t>(sizeof(T));

// One coupling h(l1) x Y(l2) -> A(l3), channel by channel; blocks start at h_start of a row of h and out_start of a row of A.
struct Path {
  int l1, l2, l3;
  int64_t n_channels, h_start, w_start, out_start, out_stride;
  const equipot::Coefficient* coefficients;
  int64_t n_coefficients;
};

// The knots first ... last of one table. A distance in bin b of n_bins lies in an interval of two knots not before bins[b].
struct Table {
  int64_t first, last, n_bins;
  double bins_per_length;
  const int32_t* bins;
};

// The convolution of one layer.
template <class T>
struct Convolution {
  const Path* paths;
  int64_t n_paths;
  int l_max;
  int64_t h_dim, a_dim;
  bool density;             // the last function of the tables is summed too
  int64_t n_functions;
  const T* table;           // [n_knots][3][n_functions]: f, f', f''
  const double* knots;      // [n_knots]
  const Table* tables;
  const int32_t* table_of;  // [n_elements][n_elements], by centre and neighbour
  int n_elements;
  const double* norms;  // [l * (max_l + 1) + m] of the harmonics
};

// The edges of a configuration, those beyond the cutoff left out; in the order of their receivers for the way there, of their senders for that back.
template <class T>
struct Edges {
  const int32_t* types;
  const int64_t* start;  // [n_local + 1]
  const int32_t* sender;
  const double* vectors;        // [n_edges][3]
  const int64_t* sender_start;  // [n_local + n_ghost + 1]
  const int32_t* receiver;
  const double* back_vectors;  // [n_edges][3]
  double* pull;                // [n_edges][3]: dE/dr_e, by sender
};

// Symmetric products as polynomials of the components of one channel, with coefficients of their own per channel. With a single channel a chunk
// holds atoms of one element instead, and their coefficients are single numbers.
template <class T>
struct Polynomial {
  int n_in, n_out;              // components
  int64_t n_channels;
  int64_t n_monomials, n_terms;
  const int16_t* factors;       // [n_monomials][3]; n_in stands for 1
  const int32_t* term_start;    // [n_monomials + 1]
  const int16_t* term_out;      // [n_terms]
  const T* coefficients;        // [n_sets][n_chunks][n_terms][chunk]; of a single channel [n_sets][n_terms]
  int64_t set_size;             // numbers of one set
  bool per_element;
  int n_elements;
};

template <class T>
struct Kernels {
  // Rows of A of receivers [first, last), and with a density its sums. Row of h of atom j: h + j * h_dim, or h + types[j] * h_dim.
  void (*convolve)(const Convolution<T>&, const Edges<T>&, const T* h, bool by_type, int64_t first, int64_t last, T* a, T* density);
  // For senders [first, last): their rows of gh (if not null; it may be h) and what their edges add to pull, from ga and g_density of the receivers.
  // row: h_dim numbers to work in.
  void (*convolve_back)(const Convolution<T>&, const Edges<T>&, const T* h, bool by_type, const T* ga, const T* g_density, int64_t first, int64_t last,
                        T* row, T* gh);
  // y[r][0 ... n_out) = (or +=) sum_k x[r][k] w[k][...], w in panels.
  void (*multiply)(int64_t n_rows, const T* const* x, T* const* y, int64_t n_in, int64_t n_out, const T* w, bool add);
  // value = factor act(x) and slope = factor act'(x) of n numbers; slope may be null.
  void (*activate)(int act, int64_t n, const T* x, T factor, T* value, T* slope);
  void (*product)(const Polynomial<T>&, int64_t n_atoms, const int32_t* types, const T* a, T* b);
  void (*product_back)(const Polynomial<T>&, int64_t n_atoms, const int32_t* types, const T* a, const T* gb, T* ga);
};

struct KernelSet {
  const char* name;
  Kernels<float> f32;
  Kernels<double> f64;
};

// The best of this machine.
const KernelSet& kernel_set();
template <class T>
const Kernels<T>& kernels();

}  // namespace eq
