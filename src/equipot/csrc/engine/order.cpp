#include "order.hpp"

#include <algorithm>
#include <cmath>

namespace eq {
namespace {

constexpr double grain = 1.0;  // A, the side of a cell of the curve
constexpr int bits = 20;       // of a coordinate

// Two zeros behind every bit.
uint64_t spread(uint64_t x) {
  x &= 0x1FFFFF;
  x = (x | x << 32) & 0x1F00000000FFFF;
  x = (x | x << 16) & 0x1F0000FF0000FF;
  x = (x | x << 8) & 0x100F00F00F00F00F;
  x = (x | x << 4) & 0x10C30C30C30C30C3;
  return (x | x << 2) & 0x1249249249249249;
}

// The inverse of the cell; false where it has no volume.
bool invert(const double* cell, double inverse[9]) {
  const double* c = cell;
  const double cross[9] = {c[4] * c[8] - c[5] * c[7], c[2] * c[7] - c[1] * c[8], c[1] * c[5] - c[2] * c[4],
                           c[5] * c[6] - c[3] * c[8], c[0] * c[8] - c[2] * c[6], c[2] * c[3] - c[0] * c[5],
                           c[3] * c[7] - c[4] * c[6], c[1] * c[6] - c[0] * c[7], c[0] * c[4] - c[1] * c[3]};
  const double volume = c[0] * cross[0] + c[1] * cross[3] + c[2] * cross[6];
  if (!(std::abs(volume) > 1e-6)) return false;
  for (int k = 0; k < 9; ++k) inverse[k] = cross[k] / volume;
  return true;
}

}  // namespace

void Order::sort(int64_t n, const double* positions, const double* cell) {
  Key* keys = keys_.reserve(n);
  double inverse[9], length[3], lowest[3] = {0, 0, 0};
  const bool wrap = cell && invert(cell, inverse);
  for (int a = 0; a < 3; ++a) length[a] = wrap ? std::sqrt(cell[3 * a] * cell[3 * a] + cell[3 * a + 1] * cell[3 * a + 1] + cell[3 * a + 2] * cell[3 * a + 2]) : 0;
  if (!wrap)
    for (int a = 0; a < 3; ++a)
      for (int64_t i = 0; i < n; ++i) lowest[a] = i ? std::min(lowest[a], positions[3 * i + a]) : positions[a];
  for (int64_t i = 0; i < n; ++i) {
    const double* r = positions + 3 * i;
    keys[i] = {0, static_cast<int32_t>(i)};
    for (int a = 0; a < 3; ++a) {
      double x = r[a] - lowest[a];
      if (wrap) {
        x = r[0] * inverse[a] + r[1] * inverse[3 + a] + r[2] * inverse[6 + a];
        x = (x - std::floor(x)) * length[a];
      }
      // what is not finite is refused with its edges
      const double step = x >= 0 ? std::min(x / grain, static_cast<double>((1 << bits) - 1)) : 0;
      keys[i].code |= spread(static_cast<uint64_t>(step)) << a;
    }
  }
  std::sort(keys, keys + n, [](const Key& a, const Key& b) { return a.code != b.code ? a.code < b.code : a.atom < b.atom; });
  int32_t *given = given_.reserve(n), *place = place_.reserve(n);
  for (int64_t k = 0; k < n; ++k) given[k] = keys[k].atom, place[keys[k].atom] = static_cast<int32_t>(k);
  sorted_ = true;
}

}  // namespace eq
