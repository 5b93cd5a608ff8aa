// What the kernels know of a plan; private to the library.
#pragma once

#include <cstdint>
#include <vector>

#include "equipot_ops.h"

namespace equipot {

// One non-zero C[m1, m2, m3].
struct Coefficient {
  uint8_t m1, m2, m3;
  double value;
};

struct Path {
  int l1, l2, l3;
  int64_t n_channels, h_start, w_start, out_start, out_stride, out_channel;
  const Coefficient* coefficients;  // sorted by m1, m3, m2
  int64_t n_coefficients;
  bool first_of_h;  // no path before it in the plan's order has this block of h

  int d1() const { return 2 * l1 + 1; }
  int d2() const { return 2 * l2 + 1; }
  int d3() const { return 2 * l3 + 1; }
  int y_start() const { return l2 * l2; }
};

// The coefficients of a triple; null if it does not couple or a degree is out of range.
const Coefficient* find_coefficients(int64_t l1, int64_t l2, int64_t l3, int64_t* count);

}  // namespace equipot

struct equipot_plan {
  std::vector<equipot::Path> paths;  // sorted by their blocks of h
  int64_t h_dim, y_dim, w_dim, out_dim;
  int64_t edge_work;          // multiplications of one forward edge, for the decision to use threads
  // Every number of h, w or A belongs to a path, and the first path that has a block of h may overwrite its gradient: nothing need be cleared.
  bool h_covered, w_covered, out_covered;
  std::vector<double> zeros;  // a row of zeros, long enough for h and w
};
