// The convolution of ranges of atoms, edge block by edge block.
#pragma once

#include "engine_paths.hpp"

namespace EQUIPOT_NAMESPACE {

template <class T>
void convolve(const Convolution<T>& layer, const Edges<T>& edges, const T* h, bool by_type, int64_t first, int64_t last, T* a, T* density) {
  EdgeBlock<T> block;
  block.n_functions = layer.n_functions;
  for (int64_t i = first; i < last; ++i) {
    T* row = a + (i - first) * layer.a_dim;
    if (density) density[i - first] = 0;
    const int64_t end = edges.start[i + 1];
    if (edges.start[i] == end) clear(row, layer.a_dim);
    for (int64_t edge = edges.start[i]; edge < end; edge += block_edges) {
      block.size = end - edge < block_edges ? static_cast<int>(end - edge) : block_edges;
      block.fresh = edge == edges.start[i];
      block.out = row;
      set_directions(block, edges.vectors + 3 * edge);
      for (int e = 0; e < block.size; ++e) {
        const int64_t j = edges.sender[edge + e];
        block.far[e] = h + (by_type ? edges.types[j] : j) * layer.h_dim;
        find_place(block, e, layer, edges.types[i], edges.types[j]);
      }
      set_weights<T, false>(block);
      compute_harmonics(layer.l_max, layer.norms, block.harmonics, block.y);
      for (int64_t p = 0; p < layer.n_paths; ++p) run_path<T, false>(block, layer.paths[p]);
      if (density)
        for (int e = 0; e < block.size; ++e)
          for (int j = 0; j < 6; ++j) density[i - first] += block.c[j][e] * block.knot[e][(j + 1) * layer.n_functions - 1];
    }
  }
}

// Derivatives by the edge vectors from those by harmonics and distance.
template <class T>
EQUIPOT_INLINE void add_pull(EdgeBlock<T>& block, const Convolution<T>& layer, double* pull) {
  const Lanes<T, false> whole(0);
  const int n_y = (layer.l_max + 1) * (layer.l_max + 1);
  alignas(64) T g[3][block_edges];
  for (int m = 1; m < n_y; ++m)
    for (int e = 0; e < block_edges; ++e) block.y[m][e] = sum<T>(whole.load(block.y_sum[m][e]));
  harmonics_gradient(layer.l_max, layer.norms, block.harmonics, block.y, g);
  for (int e = 0; e < block.size; ++e, pull += 3) {
    const double x = block.harmonics.x[e], y = block.harmonics.y[e], z = block.harmonics.z[e];
    const double along = g[0][e] * x + g[1][e] * y + g[2][e] * z, per_r = block.per_r[e];
    const double radial = static_cast<double>(sum<T>(whole.load(block.r_sum[e]))) - along * per_r;
    pull[0] += g[0][e] * per_r + radial * x;
    pull[1] += g[1][e] * per_r + radial * y;
    pull[2] += g[2][e] * per_r + radial * z;
  }
}

template <class T>
void convolve_back(const Convolution<T>& layer, const Edges<T>& edges, const T* h, bool by_type, const T* ga, const T* g_density, int64_t first,
                   int64_t last, T* row, T* gh) {
  const int n_y = (layer.l_max + 1) * (layer.l_max + 1);
  EdgeBlock<T> block;
  block.n_functions = layer.n_functions;
  for (int64_t j = first; j < last; ++j) {
    block.out = gh ? row : nullptr;
    if (gh) clear(row, layer.h_dim);
    block.near = h + (by_type ? edges.types[j] : j) * layer.h_dim;
    const int64_t end = edges.sender_start[j + 1];
    for (int64_t at = edges.sender_start[j]; at < end; at += block_edges) {
      block.size = end - at < block_edges ? static_cast<int>(end - at) : block_edges;
      const int32_t* receiver = edges.receiver + at;
      set_directions(block, edges.back_vectors + 3 * at);
      for (int e = 0; e < block.size; ++e) {
        block.far[e] = ga + receiver[e] * layer.a_dim;
        find_place(block, e, layer, edges.types[receiver[e]], edges.types[j]);
      }
      set_weights<T, true>(block);
      compute_harmonics(layer.l_max, layer.norms, block.harmonics, block.y);
      std::memset(block.y_sum, 0, sizeof block.y_sum[0] * n_y);
      std::memset(block.r_sum, 0, sizeof block.r_sum);
      for (int64_t p = 0; p < layer.n_paths; ++p) run_path<T, true>(block, layer.paths[p]);
      if (g_density)
        for (int e = 0; e < block.size; ++e)
          for (int c = 0; c < 6; ++c)
            block.r_sum[e][0] += g_density[receiver[e]] * block.dc[c][e] * block.knot[e][(c + 1) * layer.n_functions - 1];
      add_pull(block, layer, edges.pull + 3 * at);
    }
    if (gh) std::memcpy(gh + j * layer.h_dim, row, sizeof(T) * static_cast<size_t>(layer.h_dim));
  }
}

}  // namespace EQUIPOT_NAMESPACE
