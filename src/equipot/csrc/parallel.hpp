// Loops over tasks on the OpenMP runtime that the process already has; see equipot_set_parallel.
#pragma once

#include <cstdint>

namespace equipot {

// Calls task(data, i) once for every i in [0, n), on at most n_threads threads, in no particular order; returns when all are done.
void parallel_for(int64_t n, int n_threads, void (*task)(const void* data, int64_t i), const void* data);

}  // namespace equipot
