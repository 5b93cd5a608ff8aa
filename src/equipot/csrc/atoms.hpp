// Atoms grouped by element, and cut into chunks of one element each; private to the library.
#pragma once

#include <cstdint>
#include <vector>

namespace equipot {

// Atoms order[begin] … order[end - 1], all of one element.
struct Chunk {
  int64_t element, begin, end;
};

struct AtomGroups {
  std::vector<int64_t> order;  // atoms by element; those of one element ascending
  std::vector<Chunk> chunks;   // by element; elements without atoms have none
};

// Chunks of at most `chunk_atoms` atoms: a function of the atoms alone, so that sums over chunks do not depend on threads. A null `species`: all
// atoms are of element 0. False if a species is out of range. Throws std::bad_alloc.
bool group_atoms(int64_t n_atoms, int64_t n_elements, const int64_t* species, int64_t chunk_atoms, AtomGroups& groups);

// The chunk size of operations that sum over atoms: few chunks, each with a partial sum of its own.
int64_t summing_chunk(int64_t n_atoms);

}  // namespace equipot
