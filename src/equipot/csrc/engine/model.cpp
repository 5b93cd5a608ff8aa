// Reading and checking a model. What the kernels take on trust is refused here: indices, sizes, blocks outside their rows.
#include "model.hpp"

#include <algorithm>
#include <cmath>

namespace eq {
namespace {

constexpr int64_t longest_row = int64_t{1} << 22;

void require(bool good, const std::string& what) {
  if (!good) throw BadFile("damaged: " + what);
}

bool within(int64_t start, int64_t n, int64_t dim) { return start >= 0 && n >= 0 && start <= dim && n <= dim - start; }

// Marks [start, start + n); false if one already was.
bool claim(std::vector<char>& used, int64_t start, int64_t n) {
  for (int64_t i = start; i < start + n; ++i) {
    if (used[i]) return false;
    used[i] = 1;
  }
  return true;
}

bool all(const std::vector<char>& used) {
  return std::all_of(used.begin(), used.end(), [](char c) { return c != 0; });
}

template <class T>
std::vector<T> cast(const std::vector<double>& values) {
  std::vector<T> to(values.size());
  std::transform(values.begin(), values.end(), to.begin(), [](double x) { return static_cast<T>(x); });
  return to;
}

// The matrix (n_in, n_out) whose element k, q is weights[k * in_stride + q * out_stride], in panels.
template <class T>
void pack(const double* weights, int64_t n_in, int64_t in_stride, int64_t n_out, int64_t out_stride, T* to) {
  for (int64_t q = 0; q < n_out; ++q)
    for (int64_t k = 0; k < n_in; ++k)
      to[(q / panel<T> * n_in + k) * panel<T> + q % panel<T>] = static_cast<T>(weights[k * in_stride + q * out_stride]);
}

template <class T>
int64_t packed_size(int64_t n_in, int64_t n_out) {
  return (n_out + panel<T> - 1) / panel<T> * panel<T> * n_in;
}

template <class T>
Linear<T> read_linear(const File& file, const std::string& name, int64_t in_dim, int64_t out_dim, int n_elements) {
  Linear<T> linear;
  linear.in_dim = in_dim, linear.out_dim = out_dim;
  const auto rows = file.integers(name + ".blocks", {-1, 6});
  const auto& shape = file.get(name + ".weights", false, {-1, -1}).shape;
  require(shape[0] == 1 || shape[0] == n_elements, name + " has weights of another number of elements");
  const int64_t n_sets = shape[0], n_weights = shape[1];
  linear.per_element = n_sets > 1;
  std::vector<char> in_used(in_dim, 0), out_used(out_dim, 0);
  for (size_t i = 0; i < rows.size(); i += 6) {
    typename Linear<T>::Block b{rows[i], rows[i + 1], rows[i + 2], rows[i + 3], rows[i + 4], rows[i + 5], linear.panels_size, linear.transposed_size};
    const bool small = b.dim >= 1 && b.dim <= 2 * max_l + 1 && b.n_in >= 1 && b.n_in <= in_dim && b.n_out >= 1 && b.n_out <= out_dim;
    require(small && within(b.in_start, b.dim * b.n_in, in_dim) && within(b.out_start, b.dim * b.n_out, out_dim) &&
                within(b.w_start, b.n_in * b.n_out, n_weights),
            name + " has a block outside its rows");
    require(claim(out_used, b.out_start, b.dim * b.n_out) && claim(in_used, b.in_start, b.dim * b.n_in), name + " has blocks that overlap");
    linear.panels_size += packed_size<T>(b.n_in, b.n_out);
    linear.transposed_size += packed_size<T>(b.n_out, b.n_in);
    linear.blocks.push_back(b);
  }
  linear.covers_out = all(out_used), linear.covers_in = all(in_used);
  const auto weights = file.reals(name + ".weights", {-1, -1});
  linear.panels.assign(n_sets * linear.panels_size, T(0));
  linear.transposed.assign(n_sets * linear.transposed_size, T(0));
  for (int64_t z = 0; z < n_sets; ++z)
    for (const auto& b : linear.blocks) {
      const double* w = weights.data() + z * n_weights + b.w_start;
      pack<T>(w, b.n_in, b.n_out, b.n_out, 1, linear.panels.data() + z * linear.panels_size + b.panels_start);
      pack<T>(w, b.n_out, 1, b.n_in, b.n_out, linear.transposed.data() + z * linear.transposed_size + b.transposed_start);
    }
  return linear;
}

// Where to look for the interval of a distance: bins of equal length, about two to an interval.
Table make_table(const std::vector<double>& knots, int64_t first, int64_t last, std::vector<int32_t>& bins) {
  const int64_t n_bins = 2 * (last - first);
  const double length = knots[last];
  int64_t at = first;
  for (int64_t b = 0; b < n_bins; ++b) {
    const double left = length * static_cast<double>(b) / static_cast<double>(n_bins);
    while (at + 2 <= last && knots[at + 1] <= left) ++at;
    bins.push_back(static_cast<int32_t>(at > first ? at - 1 : at));  // one before: a distance may round into the bin before its own
  }
  return {first, last, n_bins, static_cast<double>(n_bins) / length, bins.data()};
}

template <class T>
void read_tables(const File& file, const std::string& name, Layer<T>& layer, int64_t n_functions, int n_elements) {
  const auto shape = file.get(name + ".table", false, {-1, 3, n_functions}).shape;
  require(shape[0] <= int64_t{1} << 30, name + " has too many knots");
  layer.table = cast<T>(file.reals(name + ".table", shape));
  layer.knots = file.reals(name + ".knots", {shape[0]});
  const auto starts = file.integers(name + ".table_starts", {-1});
  require(starts.size() >= 2 && starts.front() == 0 && starts.back() == shape[0], name + " has tables that are not all of its knots");
  layer.bins.resize(starts.size() - 1);
  for (size_t t = 0; t + 1 < starts.size(); ++t) {
    const int64_t first = starts[t], last = starts[t + 1] - 1;
    require(first >= 0 && last < shape[0] && last > first && layer.knots[first] == 0, name + " has a table without knots");
    for (int64_t i = first; i < last; ++i) require(layer.knots[i + 1] > layer.knots[i], name + " has knots that do not ascend");
    require(layer.knots[last] > 1e-3 && layer.knots[last] < 1e3, name + " has a cutoff that is no length");
    layer.tables.push_back(make_table(layer.knots, first, last, layer.bins[t]));
  }
  for (int64_t t : file.integers(name + ".table_of", {n_elements, n_elements})) {
    require(t >= 0 && t < static_cast<int64_t>(layer.tables.size()), name + " asks for a table that is not there");
    layer.table_of.push_back(static_cast<int32_t>(t));
  }
}

template <class T>
void read_convolution(const File& file, const std::string& name, Layer<T>& layer, int l_max, int64_t n_weights, int n_elements) {
  const auto rows = file.integers(name + ".paths", {-1, 8});
  std::vector<char> w_used(n_weights, 0), a_used(layer.a_dim, 0);
  for (size_t i = 0; i < rows.size(); i += 8) {
    const int64_t* in = rows.data() + i;
    Path p{};
    p.coefficients = equipot::find_coefficients(in[0], in[1], in[2], &p.n_coefficients);
    require(p.coefficients && in[1] <= l_max, name + " has a path that does not couple");
    p.l1 = static_cast<int>(in[0]), p.l2 = static_cast<int>(in[1]), p.l3 = static_cast<int>(in[2]);
    p.n_channels = in[3], p.h_start = in[4], p.w_start = in[5], p.out_start = in[6], p.out_stride = in[7];
    const int64_t d1 = 2 * p.l1 + 1, d3 = 2 * p.l3 + 1;
    require(p.n_channels >= 1 && p.n_channels <= layer.row_dim && within(p.h_start, d1 * p.n_channels, layer.row_dim) &&
                within(p.w_start, p.n_channels, n_weights) && p.out_stride >= 0 && p.out_stride <= layer.a_dim &&
                within(p.out_start, (d3 - 1) * p.out_stride + p.n_channels, layer.a_dim),
            name + " has a path outside its rows");
    bool distinct = claim(w_used, p.w_start, p.n_channels);
    for (int64_t m = 0; m < d3; ++m) distinct = distinct && claim(a_used, p.out_start + m * p.out_stride, p.n_channels);
    require(distinct, name + " has paths that overlap");
    layer.paths.push_back(p);
  }
  require(all(a_used), name + " has paths that leave numbers out");
  read_tables(file, name, layer, n_weights + layer.has_density, n_elements);
  auto& c = layer.convolution;
  c.paths = layer.paths.data(), c.n_paths = static_cast<int64_t>(layer.paths.size());
  c.l_max = l_max, c.h_dim = layer.row_dim, c.a_dim = layer.a_dim, c.density = layer.has_density;
  c.n_functions = n_weights + layer.has_density;
  c.table = layer.table.data(), c.knots = layer.knots.data(), c.tables = layer.tables.data();
  c.table_of = layer.table_of.data(), c.n_elements = n_elements;
}

// The weights of all couplings of a monomial to a component, summed: coefficients of their own for every channel and element.
template <class T>
void fold_coefficients(const File& file, const std::string& name, Product<T>& product, const std::vector<int64_t>& terms) {
  auto& poly = product.polynomial;
  const auto values = file.reals(name + ".values", {static_cast<int64_t>(terms.size() / 3)});
  const auto& shape = file.get(name + ".weights", false, {-1, -1, poly.n_channels}).shape;
  const auto weights = file.reals(name + ".weights", shape);
  const int64_t n_sets = shape[0], n_eta = shape[1];
  // a single channel's coefficients are not padded to a chunk
  const int64_t width = poly.n_channels == 1 ? 1 : chunk<T>, n_chunks = (poly.n_channels + width - 1) / width;
  product.term_start.assign(poly.n_monomials + 1, 0);
  std::vector<int64_t> number;  // of the folded term each term belongs to
  for (size_t i = 0; i < values.size(); ++i) {
    const int64_t monomial = terms[3 * i], out = terms[3 * i + 1];
    require(monomial >= 0 && monomial < poly.n_monomials && out >= 0 && out < max_components && terms[3 * i + 2] >= 0 && terms[3 * i + 2] < n_eta,
            name + " has a term that refers to nothing");
    const bool first = i == 0 || terms[3 * i - 3] != monomial || terms[3 * i - 2] != out;
    require(i == 0 || terms[3 * i - 3] <= monomial, name + " has terms out of order");
    if (first) {
      product.term_out.push_back(static_cast<int16_t>(out));
      ++product.term_start[monomial + 1];
      poly.n_out = std::max<int>(poly.n_out, static_cast<int>(out) + 1);
    }
    number.push_back(static_cast<int64_t>(product.term_out.size()) - 1);
  }
  for (int64_t n = 0; n < poly.n_monomials; ++n) product.term_start[n + 1] += product.term_start[n];
  poly.n_terms = static_cast<int64_t>(product.term_out.size());
  poly.set_size = n_chunks * poly.n_terms * width;
  poly.per_element = n_sets > 1;
  require(poly.set_size <= (int64_t{1} << 36) / std::max<int64_t>(n_sets, 1), name + " is too large");
  std::vector<double> folded(n_sets * poly.set_size, 0.0);
  for (int64_t z = 0; z < n_sets; ++z)
    for (size_t i = 0; i < values.size(); ++i)
      for (int64_t k = 0; k < poly.n_channels; ++k)
        folded[z * poly.set_size + (k / width * poly.n_terms + number[i]) * width + k % width] +=
            values[i] * weights[(z * n_eta + terms[3 * i + 2]) * poly.n_channels + k];
  product.coefficients = cast<T>(folded);
  poly.coefficients = product.coefficients.data();
}

template <class T>
void read_product(const File& file, const std::string& name, Layer<T>& layer, int n_elements) {
  auto& product = layer.product;
  auto& poly = product.polynomial;
  const auto& shape = file.get(name + ".weights", false, {-1, -1, -1}).shape;
  require(shape[0] == 1 || shape[0] == n_elements, name + " has weights of another number of elements");
  poly.n_channels = shape[2], poly.n_elements = n_elements;
  require(poly.n_channels >= 1 && poly.n_channels <= layer.d_dim && layer.d_dim % poly.n_channels == 0 && layer.d_dim / poly.n_channels < max_components,
          name + " does not fit the density");
  poly.n_in = static_cast<int>(layer.d_dim / poly.n_channels);
  const auto factors = file.integers(name + ".monomials", {-1, 3});
  for (int64_t f : factors) {
    require(f >= -1 && f < poly.n_in, name + " has a monomial of a component that is not there");
    product.factors.push_back(static_cast<int16_t>(f < 0 ? poly.n_in : f));
  }
  poly.n_monomials = static_cast<int64_t>(factors.size() / 3);
  const auto terms = file.integers(name + ".terms", {-1, 3});
  require(terms.size() < (size_t{1} << 30), name + " is too large");
  fold_coefficients(file, name, product, terms);
  poly.factors = product.factors.data(), poly.term_start = product.term_start.data(), poly.term_out = product.term_out.data();
  layer.b_dim = poly.n_out * poly.n_channels;
}

int activation(int64_t code) {
  require(code >= 0 && code < n_activations, "an activation that is not known");
  return static_cast<int>(code);
}

Gate read_gate(const File& file, const std::string& name, int64_t in_dim, int64_t out_dim) {
  Gate gate;
  std::vector<char> used(out_dim, 0);
  const auto scalars = file.integers(name + ".scalars", {-1, 4}), gated = file.integers(name + ".gated", {-1, 6}),
             norms = file.integers(name + ".norms", {-1, 3});
  const auto scalar_factors = file.reals(name + ".scalar_factors", {static_cast<int64_t>(scalars.size() / 4)});
  const auto gated_factors = file.reals(name + ".gated_factors", {static_cast<int64_t>(gated.size() / 6)});
  for (size_t i = 0; i < scalar_factors.size(); ++i) {
    const int64_t* s = scalars.data() + 4 * i;
    require(within(s[0], s[2], in_dim) && within(s[1], s[2], out_dim) && claim(used, s[1], s[2]), name + " has scalars outside its rows");
    gate.scalars.push_back({s[0], s[1], s[2], activation(s[3]), scalar_factors[i]});
  }
  for (size_t i = 0; i < gated_factors.size(); ++i) {
    const int64_t* g = gated.data() + 6 * i;
    const bool small = g[2] >= 1 && g[2] <= 2 * max_l + 1 && g[3] >= 1 && g[3] <= out_dim;
    require(small && within(g[0], g[2] * g[3], in_dim) && within(g[1], g[2] * g[3], out_dim) && within(g[4], g[3], in_dim) &&
                claim(used, g[1], g[2] * g[3]),
            name + " has a block outside its rows");
    gate.gated.push_back({g[0], g[1], g[2], g[3], g[4], activation(g[5]), gated_factors[i]});
  }
  for (size_t i = 0; i < norms.size(); i += 3) {
    const int64_t* x = norms.data() + i;
    require(x[1] >= 1 && x[1] <= 2 * max_l + 1 && x[2] >= 1 && x[2] <= out_dim && within(x[0], x[1] * x[2], std::min(in_dim, out_dim)) &&
                claim(used, x[0], x[1] * x[2]),
            name + " has a block outside its rows");
    gate.norms.push_back({x[0], x[1], x[2]});
  }
  require(all(used), name + " leaves features out");
  return gate;
}

template <class T>
Readout<T> read_readout(const File& file, const std::string& name, int64_t dim) {
  Readout<T> readout;
  const auto info = file.integers(name + ".info", {3});
  require(info[1] >= 1 && info[1] <= 64, name + " has no weights");
  readout.start = info[0], readout.act = activation(info[2]);
  int64_t width = -1;
  for (int64_t i = 0; i < info[1]; ++i) {
    const std::string number = std::to_string(i);
    const auto& shape = file.get(name + ".weight" + number, false, {width, -1}).shape;
    require(shape[0] >= 1 && shape[1] >= 1, name + " has an empty matrix");
    if (i == 0) require(within(readout.start, shape[0], dim), name + " reads outside its row");
    readout.widest = std::max({readout.widest, shape[0], shape[1]});
    width = shape[1];
    readout.steps.push_back({shape[0], shape[1], cast<T>(file.reals(name + ".weight" + number, shape)), cast<T>(file.reals(name + ".bias" + number, {width}))});
  }
  require(width == 1, name + " gives more than one energy");
  return readout;
}

template <class T>
void read_layer(const File& file, int index, int64_t h_dim, int n_elements, Layer<T>& layer) {
  const std::string name = "layer" + std::to_string(index);
  const auto dims = file.integers(name + ".dims", {9});
  for (int64_t d : dims) require(d >= 0 && d <= longest_row, name + " has rows without a sensible length");
  layer.row_dim = dims[8];
  layer.h_dim = dims[0], layer.a_dim = dims[1], layer.d_dim = dims[2], layer.u_dim = dims[3], layer.out_dim = dims[4];
  require(layer.h_dim == h_dim && dims[5] <= max_l && dims[7] <= 1, name + " does not fit the layer before it");
  layer.has_density = dims[7] == 1;
  layer.scale = cast<T>(file.reals(name + ".scale", {n_elements}));
  if ((layer.has_up = file.has(name + ".up.blocks"))) layer.up = read_linear<T>(file, name + ".up", h_dim, layer.row_dim, n_elements);
  require(layer.has_up || layer.row_dim == h_dim, name + " sends rows of another length than its features");
  read_convolution(file, name, layer, static_cast<int>(dims[5]), dims[6], n_elements);
  layer.linear = read_linear<T>(file, name + ".linear", layer.a_dim, layer.d_dim, n_elements);
  layer.b_dim = layer.d_dim;
  if ((layer.has_product = file.has(name + ".product.weights"))) {
    read_product(file, name + ".product", layer, n_elements);
    layer.product_linear = read_linear<T>(file, name + ".product.linear", layer.b_dim, layer.u_dim, n_elements);
  } else {
    require(layer.d_dim == layer.u_dim, name + " has a density of another length than its update");
  }
  if ((layer.has_self = file.has(name + ".self.blocks"))) layer.self = read_linear<T>(file, name + ".self", h_dim, layer.u_dim, n_elements);
  if ((layer.has_skip = file.has(name + ".skip.blocks"))) layer.skip = read_linear<T>(file, name + ".skip", h_dim, layer.out_dim, n_elements);
  if ((layer.has_gate = file.has(name + ".gate.scalars")))
    layer.gate = read_gate(file, name + ".gate", layer.u_dim, layer.out_dim);
  else
    require(layer.u_dim == layer.out_dim, name + " has an update of another length than its features");
  if ((layer.has_readout = file.has(name + ".readout.info"))) layer.readout = read_readout<T>(file, name + ".readout", layer.out_dim);
}

Zbl read_zbl(const File& file, int n_elements) {
  Zbl zbl;
  if (!(zbl.on = file.has("zbl.info"))) return zbl;
  const auto info = file.integers("zbl.info", {2});
  require(info[0] >= 2 && info[0] <= 100 && info[1] >= 0 && info[1] <= 1, "a repulsion that makes no sense");
  zbl.p = static_cast<int>(info[0]), zbl.scaled = info[1] != 0;
  zbl.pairs = file.reals("zbl.pairs", {n_elements, n_elements, 3});
  for (size_t i = 2; i < zbl.pairs.size(); i += 3) require(zbl.pairs[i] > 0, "a repulsion without a range");
  const auto screening = file.reals("zbl.screening", {4, 2});
  for (int i = 0; i < 4; ++i) zbl.c[i] = screening[2 * i], zbl.d[i] = screening[2 * i + 1];
  return zbl;
}

// N_lm = sqrt((2l+1) (2 - delta_m0) (l-m)! / (l+m)!).
std::vector<double> harmonic_norms() {
  std::vector<double> norms((max_l + 1) * (max_l + 1), 0.0);
  for (int l = 0; l <= max_l; ++l)
    for (int m = 0; m <= l; ++m) {
      double x = (2 * l + 1) * (m ? 2.0 : 1.0);
      for (int i = l - m + 1; i <= l + m; ++i) x /= i;
      norms[l * (max_l + 1) + m] = std::sqrt(x);
    }
  return norms;
}

}  // namespace

template <class T>
Model<T>::Model(const File& file) : norms(harmonic_norms()), header(file.header()) {
  const auto info = file.integers("info", {3});
  require(info[0] >= 1 && info[0] <= 64 && info[1] >= 1 && info[1] <= 118 && info[2] >= 0 && info[2] <= 1, "no sensible number of layers or elements");
  n_elements = static_cast<int>(info[1]), subtract_bare = info[2] == 1;
  for (int64_t z : file.integers("elements", {n_elements})) {
    require(z >= 1 && z <= 118 && (elements.empty() || z > elements.back()), "elements that are not ascending");
    elements.push_back(static_cast<int32_t>(z));
  }
  pair_cutoffs = file.reals("pair_cutoffs", {n_elements, n_elements});
  for (double c : pair_cutoffs) {
    require(c > 1e-3 && c < 1e3, "a cutoff that is no length");
    cutoff = std::max(cutoff, c);
  }
  e0 = file.reals("energy.e0", {n_elements}), scale = file.reals("energy.scale", {n_elements}), shift = file.reals("energy.shift", {n_elements});
  int64_t width = file.get("embedding", false, {n_elements, -1}).shape[1];
  require(width >= 1 && width <= longest_row, "an embedding without width");
  embedding = cast<T>(file.reals("embedding", {n_elements, width}));
  zbl = read_zbl(file, n_elements);
  layers.resize(info[0]);
  for (int t = 0; t < static_cast<int>(info[0]); ++t) {
    read_layer(file, t, width, n_elements, layers[t]);
    layers[t].convolution.norms = norms.data();
    width = layers[t].out_dim;
  }
}

template <class T>
T activate(int act, T x) {
  switch (act) {
    case act_silu: return x / (T(1) + std::exp(-x));
    case act_tanh: return std::tanh(x);
    case 3: return std::abs(x);
    case 4: return x > 0 ? x : T(0);
    case 5: return T(0.5) * x * (T(1) + std::erf(x * T(0.70710678118654752440)));
    case 6: return x * std::tanh(x > 20 ? x : std::log1p(std::exp(x)));
    case 7: return (x > 20 ? x : std::log1p(std::exp(x))) - T(0.69314718055994530942);
    default: return x;
  }
}

template <class T>
T activate_slope(int act, T x) {
  switch (act) {
    case act_silu: {
      const T s = T(1) / (T(1) + std::exp(-x));
      return s * (T(1) + x * (T(1) - s));
    }
    case act_tanh: {
      const T t = std::tanh(x);
      return T(1) - t * t;
    }
    case 3: return x > 0 ? T(1) : x < 0 ? T(-1) : T(0);
    case 4: return x > 0 ? T(1) : T(0);
    case 5:
      return T(0.5) * (T(1) + std::erf(x * T(0.70710678118654752440))) + x * std::exp(T(-0.5) * x * x) * T(0.39894228040143267794);
    case 6: {
      const T t = std::tanh(x > 20 ? x : std::log1p(std::exp(x)));
      return t + x * (T(1) - t * t) / (T(1) + std::exp(-x));
    }
    case 7: return T(1) / (T(1) + std::exp(-x));
    default: return T(1);
  }
}

template struct Model<float>;
template struct Model<double>;
template float activate(int, float);
template double activate(int, double);
template float activate_slope(int, float);
template double activate_slope(int, double);

}  // namespace eq
