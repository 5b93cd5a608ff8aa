// The order in which atoms are computed: those that are near in space are near in memory.
#pragma once

#include <cstdint>

#include "buffer.hpp"

namespace eq {

// Atoms along a Morton curve through positions [n][3], which are wrapped into the cell (null, or three vectors by rows) where it has a volume:
// a simulation's atoms may have left it. A function of its arguments alone.
class Order {
 public:
  void sort(int64_t n, const double* positions, const double* cell);
  // Every atom in its own place.
  void clear() { sorted_ = false; }
  bool sorted() const { return sorted_; }
  // The caller's index of the atom in place k, and back.
  int64_t given(int64_t k) const { return sorted_ ? given_[k] : k; }
  int32_t place(int32_t i) const { return sorted_ ? place_[i] : i; }
  int64_t bytes() const { return keys_.bytes() + given_.bytes() + place_.bytes(); }

 private:
  struct Key {
    uint64_t code;
    int32_t atom;
  };
  Buffer<Key> keys_;
  Buffer<int32_t> given_, place_;
  bool sorted_ = false;
};

}  // namespace eq
