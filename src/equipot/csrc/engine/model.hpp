// A model as the engine runs it: the steps of every layer with explicit weights, read from a file and checked.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "file.hpp"
#include "kernels.hpp"

namespace eq {

// y[m k'] (+)= sum_k W(z)[k, k'] x[m k] for every block.
template <class T>
struct Linear {
  struct Block {
    int64_t dim, in_start, n_in, out_start, n_out, w_start, panels_start, transposed_start;
  };
  std::vector<Block> blocks;
  int64_t in_dim = 0, out_dim = 0, panels_size = 0, transposed_size = 0;
  bool per_element = false;
  bool covers_out = false, covers_in = false;  // the blocks fill a whole row of y, of x
  std::vector<T> panels, transposed;           // [1 or n_elements][panels_size or transposed_size]: each block's matrix and its transpose
};

struct Gate {
  struct Scalars {
    int64_t in_start, out_start, n;
    int act;
    double factor;
  };
  struct Gated {
    int64_t in_start, out_start, dim, n, gate_start;
    int act;
    double factor;
  };
  std::vector<Scalars> scalars;
  struct Norms {
    int64_t start, dim, n;
  };
  std::vector<Gated> gated;
  std::vector<Norms> norms;  // x sigmoid(|x|), in place
};

// A perceptron on the scalars of an atom, with one output.
template <class T>
struct Readout {
  struct Step {
    int64_t n_in, n_out;
    std::vector<T> weights, bias;  // (n_in, n_out)
  };
  int64_t start = 0, widest = 0;
  int act = 0;
  std::vector<Step> steps;
};

template <class T>
struct Product {
  Polynomial<T> polynomial;
  std::vector<int16_t> factors, term_out;
  std::vector<int32_t> term_start;
  std::vector<T> coefficients;
};

template <class T>
struct Layer {
  // h, what is sent of it, density A, its linear map D, product B, in front of the gate, new features
  int64_t h_dim, row_dim, a_dim, d_dim, b_dim, u_dim, out_dim;
  bool has_up = false, has_product = false, has_self = false, has_skip = false, has_gate = false, has_readout = false, has_density = false;
  std::vector<T> scale;  // [n_elements], of what is sent
  Linear<T> up, linear, product_linear, self, skip;
  Product<T> product;
  Gate gate;
  Readout<T> readout;
  Convolution<T> convolution;
  std::vector<Path> paths;
  std::vector<T> table;
  std::vector<double> knots;
  std::vector<Table> tables;
  std::vector<std::vector<int32_t>> bins;
  std::vector<int32_t> table_of;
};

// Repulsion of nuclei: pair [n_elements][n_elements][3] is the prefactor (half of q^2 Z Z'), 1 / screening length and cutoff.
struct Zbl {
  bool on = false, scaled = false;
  int p = 0;
  std::vector<double> pairs;
  double c[4] = {}, d[4] = {};
};

template <class T>
struct Model {
  explicit Model(const File& file);  // raises BadFile
  Model(const Model&) = delete;

  int n_elements = 0;
  bool subtract_bare = false;
  double cutoff = 0;
  std::vector<int32_t> elements;
  std::vector<double> pair_cutoffs, e0, scale, shift;
  std::vector<T> embedding;  // [n_elements][width]
  std::vector<Layer<T>> layers;
  Zbl zbl;
  std::vector<double> norms;
  std::string header;
};

// act(x) and its derivative.
template <class T>
T activate(int act, T x);
template <class T>
T activate_slope(int act, T x);
constexpr int n_activations = 8, act_silu = 1, act_tanh = 2;

}  // namespace eq
