// What the product's kernels know of a plan; private to the library.
#pragma once

#include <cstdint>
#include <vector>

#include "equipot_ops.h"

namespace equipot {

// Monomials as a tree: node n is its parent times variable `variable`. Nodes below n_in are the variables themselves.
struct ProductNode {
  int32_t parent, variable;
};

// A coupling's polynomial to one component: b[out] gets W[weight] · sum of its terms.
struct ProductRow {
  int32_t weight, out;
};

// Sparse sums: list i is terms [start[i], start[i + 1]), value times what `index` names.
struct ProductTerms {
  std::vector<int32_t> start, index;
  std::vector<double> f64;
  std::vector<float> f32;

  template <class T>
  const T* values() const;
};
template <>
inline const float* ProductTerms::values<float>() const { return f32.data(); }
template <>
inline const double* ProductTerms::values<double>() const { return f64.data(); }

// One chunk of atoms of one element. Names as in equipot_ops.h; b is dg and ga, gw are da, dw in the double backward; ca, cw are its cotangents.
// w, cw and gw are the element's, gw the sum over the chunk. Absent arrays are null.
template <class T>
struct ProductJob {
  const equipot_product* plan;
  int64_t n_channels;
  const int64_t* atoms;
  int64_t n_atoms;
  const T *ca, *cw, *g, *a, *w;
  T *b, *ga, *gw;
  T* scratch;  // scratch_vectors(plan) of the widest pack, on a cache line
};

template <class T>
struct Product {
  using Kernel = void(const ProductJob<T>&);
  Kernel *forward, *backward, *double_backward;
};

constexpr int64_t product_pack_bytes = 128;  // of the widest pack of channels
int64_t product_scratch_packs(const equipot_product& plan);

}  // namespace equipot

struct equipot_product {
  int64_t n_in, n_out, n_weights;
  int32_t n_inner, n_nodes;                     // nodes [0, n_inner) have children or are variables, the others are leaves
  std::vector<equipot::ProductNode> nodes;      // [n_nodes]; inner nodes by degree, leaves by parent
  std::vector<int32_t> leaf_start;              // [n_inner + 1]: leaves of each inner node
  std::vector<equipot::ProductRow> rows;        // by out
  std::vector<int32_t> row_start;               // [n_out + 1]
  equipot::ProductTerms of_row, of_node;        // of_row: nodes of each row; of_node: rows of each node
};
