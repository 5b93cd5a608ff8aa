// What the dispatcher calls of the gate; private to the library.
#pragma once

#include <cstdint>

#include "equipot_ops.h"

namespace equipot {

// Names as in equipot_ops.h; `to` is y, gx or dx. Absent arrays are null.
template <class T>
struct GateJob {
  const equipot_gate_map* map;
  const T *u, *g, *x;
  T *dg, *to;
};

// Each does atoms first <= i < last.
template <class T>
struct Gate {
  using Kernel = void(const GateJob<T>&, int64_t first, int64_t last);
  Kernel *forward, *backward, *double_backward;
};

}  // namespace equipot
