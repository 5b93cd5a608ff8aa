// What the dispatcher calls of the harmonics; private to the library.
#pragma once

#include <cstdint>

#include "equipot_ops.h"

namespace equipot {

// Q_lm = N_lm P_l^(m) by Q_mm = diagonal[m], Q_lm = up[l][m] y Q_(l-1)m - down[l][m] Q_(l-2)m, and dQ_lm/dy = slope[l][m] Q_l(m+1), m >= 0.
template <class T>
struct HarmonicTables {
  T diagonal[EQUIPOT_MAX_L + 1];
  T up[EQUIPOT_MAX_L + 1][EQUIPOT_MAX_L + 1], down[EQUIPOT_MAX_L + 1][EQUIPOT_MAX_L + 1], slope[EQUIPOT_MAX_L + 1][EQUIPOT_MAX_L + 1];
};

// Names as in equipot_ops.h; `to` is y, gv or dv. Absent arrays are null.
template <class T>
struct HarmonicsJob {
  const HarmonicTables<T>* tables;
  int l_max;
  const T *u, *g, *v;
  T *dg, *to;
};

// Each does edges first <= e < last.
template <class T>
struct Harmonics {
  using Kernel = void(const HarmonicsJob<T>&, int64_t first, int64_t last);
  Kernel *forward, *backward, *double_backward;
};

}  // namespace equipot
