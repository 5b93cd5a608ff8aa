// What the dispatcher calls of the radial functions; private to the library.
#pragma once

#include <cstdint>

#include "equipot_ops.h"

namespace equipot {

constexpr int bessel_lanes = 16;  // at least the numbers of a vector

// Names as in equipot_ops.h; `to` is e or dg, `gr` also dr, `sums` partial sums of gw or dw, [n_basis][bessel_lanes]. Absent arrays are null.
template <class T>
struct BesselJob {
  const equipot_bessel* basis;
  const T *a, *b, *g, *r, *w;
  T *to, *gr, *sums;
};

// Each does pairs first <= i < last.
template <class T>
struct Bessel {
  using Kernel = void(const BesselJob<T>&, int64_t first, int64_t last);
  Kernel *forward, *backward, *double_backward;
};

}  // namespace equipot
