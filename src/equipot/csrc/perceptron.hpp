// What the dispatcher calls of the perceptron; private to the library.
#pragma once

#include <cstdint>

#include "equipot_ops.h"

namespace equipot {

// One call. Names as in equipot_ops.h, and a_i = factors[i] f(z_i), a_0 = factors[0] x; d_i and e_i are the first and second pull to z_i, v_i the
// tangent of a_i along v. A row of `left` has for i = 0 … n_layers - 1 a_i, or in the double backward v_i and a_i; one of `right`, for the hidden
// layers, d_i, or d_i and e_i. Both are there for the sums over rows that are the gradients of the weights.
template <class T>
struct PerceptronJob {
  const equipot_perceptron* net;
  const int64_t* start;  // [n_layers]: where hidden layer i begins in a row of z and p; start[n_layers - 1 + 1] is their length
  int64_t n_rows, n_hidden;
  const T *v, *g, *x, *z, *p;
  const T *const* w, *const* turned;  // W_i, and its transpose where the pass needs it
  T *z_to, *p_to, *to, *gx;           // `to` is the result or dg; gx is dx in the double backward
  T *left, *right, *scratch;          // scratch [n_rows][n_hidden]
  bool weights;                       // whether left and right will be summed over

  int64_t n_layers() const { return net->n_layers; }
  int64_t width(int64_t i) const { return net->widths[i]; }
  // `parts` is 2 in the double backward, else 1.
  int64_t left_stride(int64_t parts) const { return parts * (width(0) + n_hidden); }
  int64_t left_start(int64_t parts, int64_t i) const { return i ? parts * (width(0) + start[i]) : 0; }
};

template <class T>
struct Perceptron {
  using Kernel = void(const PerceptronJob<T>&, int64_t first, int64_t last);
  // Rows first <= r < last, at most perceptron_rows of them.
  Kernel *forward, *backward, *double_backward;
};

constexpr int64_t perceptron_rows = 32;

}  // namespace equipot
