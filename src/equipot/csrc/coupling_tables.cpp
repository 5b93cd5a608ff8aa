// The sparse Clebsch-Gordan coefficients of all degrees, as make_tables.py wrote them.
#include <algorithm>
#include <tuple>

#include "plan.hpp"

namespace equipot {
namespace {

struct TripleRange {
  int l1, l2, l3, start, count;
};

#include "coupling_tables.inc"

}  // namespace

const Coefficient* find_coefficients(int64_t l1, int64_t l2, int64_t l3, int64_t* count) {
  const auto wanted = std::make_tuple(l1, l2, l3);
  const auto key = [](const TripleRange& t) { return std::make_tuple<int64_t, int64_t, int64_t>(t.l1, t.l2, t.l3); };
  const auto found = std::lower_bound(std::begin(triple_ranges), std::end(triple_ranges), wanted,
                                      [&](const TripleRange& t, const auto& value) { return key(t) < value; });
  if (found == std::end(triple_ranges) || key(*found) != wanted) return nullptr;
  *count = found->count;
  return coefficients + found->start;
}

}  // namespace equipot
