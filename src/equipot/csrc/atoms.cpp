#include "atoms.hpp"

#include <algorithm>

namespace equipot {

bool group_atoms(int64_t n_atoms, int64_t n_elements, const int64_t* species, int64_t chunk_atoms, AtomGroups& groups) {
  std::vector<int64_t> start(n_elements + 1, 0);
  groups.order.resize(n_atoms);
  groups.chunks.clear();
  for (int64_t i = 0; i < n_atoms; ++i) {
    const int64_t z = species ? species[i] : 0;
    if (z < 0 || z >= n_elements) return false;
    ++start[z + 1];
  }
  for (int64_t z = 0; z < n_elements; ++z) {
    start[z + 1] += start[z];
    // chunks of nearly equal size
    const int64_t n = start[z + 1] - start[z], n_chunks = (n + chunk_atoms - 1) / chunk_atoms;
    for (int64_t c = 0; c < n_chunks; ++c)
      groups.chunks.push_back({z, start[z] + n * c / n_chunks, start[z] + n * (c + 1) / n_chunks});
  }
  for (int64_t i = 0; i < n_atoms; ++i) groups.order[start[species ? species[i] : 0]++] = i;
  return true;
}

int64_t summing_chunk(int64_t n_atoms) { return std::max<int64_t>(128, (n_atoms + 15) / 16); }

}  // namespace equipot
