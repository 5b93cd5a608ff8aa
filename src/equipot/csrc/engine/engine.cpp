// The stages: what is done for blocks of atoms, forwards and backwards.
//
// Kept of every layer for the way back: its features, and the inputs of what is not linear: before_gate_ and densities_ (of products and of the
// learned density).
#include "engine.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace eq {
namespace {

template <class T>
void clear(T* x, int64_t n) {
  if (n) std::memset(x, 0, sizeof(T) * static_cast<size_t>(n));
}

constexpr int64_t senders_per_task = 16;
constexpr double shortest = 1e-16;  // squared length of a channel below which a norm gate takes it for this

}  // namespace

template <class T>
Engine<T>::Engine(const File& file) {
  const int64_t n_members = file.n_members();
  for (int64_t m = 0; m < n_members; ++m) {
    members_.push_back(std::make_unique<Member>(file.member(m)));
    const Model<T>&one = members_[0]->model, &other = members_[m]->model;
    bool fits = one.elements == other.elements && one.pair_cutoffs == other.pair_cutoffs && one.layers.size() == other.layers.size();
    for (size_t t = 0; fits && t < one.layers.size(); ++t) fits = one.layers[t].row_dim == other.layers[t].row_dim;
    if (!fits) throw BadFile("damaged: model " + std::to_string(m) + " of the ensemble is another one than model 0");
  }
  for (auto* list : {&sent_, &features_, &before_gate_, &densities_, &density_sums_}) list->resize(members_[0]->model.layers.size());
  int64_t widest = 1;
  for (const auto& member : members_)
    for (const auto& layer : member->model.layers) widest = std::max({widest, layer.a_dim, layer.d_dim, layer.u_dim});
  block_ = std::min<int64_t>(32, std::max<int64_t>(4, (int64_t{1} << 19) / (widest * static_cast<int64_t>(sizeof(T)))));
  scratch_.resize(1);
  for (current_ = 0; current_ < n_members; ++current_) {
    send_first();
    measure_bare_atoms();
  }
  current_ = 0;
}

// What atoms send in the first layer, by element.
template <class T>
void Engine<T>::send_first() {
  const auto& layer = model().layers[0];
  const int n = model().n_elements;
  if (layer.h_dim == 0) throw BadFile("damaged: no features");
  std::vector<int32_t> each(n);
  for (int z = 0; z < n; ++z) each[z] = z;
  std::vector<T>& sent = members_[current_]->first;
  sent.resize(n * layer.row_dim);
  if (layer.has_up)
    apply(layer.up, false, n, each.data(), model().embedding.data(), sent.data(), false, scratch_[0]);
  else
    std::copy(model().embedding.begin(), model().embedding.end(), sent.begin());
  for (int z = 0; z < n; ++z)
    for (int64_t k = 0; k < layer.row_dim; ++k) sent[z * layer.row_dim + k] *= layer.scale[z];
}

// Site energies of atoms without neighbours, to be subtracted where the model says so: in this arithmetic, so that nothing is left over.
template <class T>
void Engine<T>::measure_bare_atoms() {
  std::vector<double>& bare = members_[current_]->bare;
  bare.assign(model().n_elements, 0.0);
  if (!model().subtract_bare) return;
  std::vector<int32_t> types(model().n_elements);
  std::vector<int64_t> start(model().n_elements + 1, 0);
  for (int z = 0; z < model().n_elements; ++z) types[z] = z;
  const int member = current_;
  begin(model().n_elements, 0, types.data(), start.data(), nullptr, nullptr);
  select(member);
  for (int t = 0; t < n_layers(); ++t) forward(t);
  for (int z = 0; z < model().n_elements; ++z) bare[z] = learned_[z];
  n_forward = n_backward = -1;
}

template <class T>
void Engine<T>::for_blocks(int64_t n, void (Engine::*step)(int, int64_t, int64_t, Scratch&), int t) {
  if (static_cast<int>(scratch_.size()) < pool.size()) scratch_.resize(pool.size());
  const int64_t fair = (n + pool.size() - 1) / pool.size(), block = std::max<int64_t>(1, std::min(block_, fair));
  pool.run((n + block - 1) / block, [&](int64_t b, int thread) { (this->*step)(t, b * block, std::min(n, (b + 1) * block), scratch_[thread]); });
}

template <class T>
void Engine<T>::apply(const Linear<T>& linear, bool transposed, int64_t n, const int32_t* types, const T* x, T* y, bool add, Scratch& s) const {
  const int64_t x_dim = transposed ? linear.out_dim : linear.in_dim, y_dim = transposed ? linear.in_dim : linear.out_dim;
  const bool covered = transposed ? linear.covers_in : linear.covers_out;
  if (!add && !covered) clear(y, n * y_dim);
  add = add || !covered;
  const T* weights = transposed ? linear.transposed.data() : linear.panels.data();
  for (int z = 0; z < (linear.per_element ? model().n_elements : 1); ++z) {
    s.picked.clear();
    for (int64_t i = 0; i < n; ++i)
      if (!linear.per_element || types[i] == z) s.picked.push_back(static_cast<int32_t>(i));
    if (s.picked.empty()) continue;
    for (const auto& b : linear.blocks) {
      const int64_t n_in = transposed ? b.n_out : b.n_in, n_out = transposed ? b.n_in : b.n_out;
      const int64_t in_start = transposed ? b.out_start : b.in_start, out_start = transposed ? b.in_start : b.out_start;
      s.from.clear(), s.to.clear();
      for (int64_t i : s.picked)
        for (int64_t m = 0; m < b.dim; ++m) {
          s.from.push_back(x + i * x_dim + in_start + m * n_in);
          s.to.push_back(y + i * y_dim + out_start + m * n_out);
        }
      kernels<T>().multiply(static_cast<int64_t>(s.from.size()), s.from.data(), s.to.data(), n_in, n_out,
                            weights + (transposed ? z * linear.transposed_size + b.transposed_start : z * linear.panels_size + b.panels_start), add);
    }
  }
}

template <class T>
void Engine<T>::open_gate(const Gate& gate, int64_t n, const T* u, int64_t u_dim, T* h, int64_t h_dim, Scratch& s) const {
  T* value = s.gate.reserve(u_dim);
  for (int64_t i = 0; i < n; ++i, u += u_dim, h += h_dim) {
    for (const auto& x : gate.scalars)
      kernels<T>().activate(x.act, x.n, u + x.in_start, static_cast<T>(x.factor), h + x.out_start, nullptr);
    for (const auto& g : gate.gated) {
      kernels<T>().activate(g.act, g.n, u + g.gate_start, static_cast<T>(g.factor), value, nullptr);
      for (int64_t m = 0; m < g.dim; ++m)
        for (int64_t k = 0; k < g.n; ++k) h[g.out_start + m * g.n + k] = value[k] * u[g.in_start + m * g.n + k];
    }
    for (const auto& x : gate.norms)
      for (int64_t k = x.start; k < x.start + x.n; ++k) {
        T length = 0;
        for (int64_t m = 0; m < x.dim; ++m) length += u[k + m * x.n] * u[k + m * x.n];
        length = std::sqrt(std::max(length, static_cast<T>(shortest)));
        const T s = T(1) / (T(1) + std::exp(-length));
        for (int64_t m = 0; m < x.dim; ++m) h[k + m * x.n] = s * u[k + m * x.n];
      }
  }
}

template <class T>
void Engine<T>::close_gate(const Gate& gate, int64_t n, const T* u, T* gu, int64_t u_dim, const T* gh, int64_t h_dim, Scratch& s) const {
  T *value = s.gate.reserve(3 * u_dim), *slope = value + u_dim, *sum = slope + u_dim;
  clear(gu, n * u_dim);
  for (int64_t i = 0; i < n; ++i, u += u_dim, gu += u_dim, gh += h_dim) {
    for (const auto& x : gate.scalars) {
      kernels<T>().activate(x.act, x.n, u + x.in_start, static_cast<T>(x.factor), value, slope);
      for (int64_t k = 0; k < x.n; ++k) gu[x.in_start + k] += slope[k] * gh[x.out_start + k];
    }
    for (const auto& g : gate.gated) {
      kernels<T>().activate(g.act, g.n, u + g.gate_start, static_cast<T>(g.factor), value, slope);
      clear(sum, g.n);
      for (int64_t m = 0; m < g.dim; ++m) {
        const int64_t from = g.out_start + m * g.n, at = g.in_start + m * g.n;
        for (int64_t k = 0; k < g.n; ++k) sum[k] += gh[from + k] * u[at + k], gu[at + k] += value[k] * gh[from + k];
      }
      for (int64_t k = 0; k < g.n; ++k) gu[g.gate_start + k] += slope[k] * sum[k];
    }
    for (const auto& x : gate.norms)
      for (int64_t k = x.start; k < x.start + x.n; ++k) {
        T length = 0, along = 0;
        for (int64_t m = 0; m < x.dim; ++m) length += u[k + m * x.n] * u[k + m * x.n], along += u[k + m * x.n] * gh[k + m * x.n];
        const bool is_short = length <= shortest;
        length = std::sqrt(is_short ? static_cast<T>(shortest) : length);
        const T s = T(1) / (T(1) + std::exp(-length)), slope = is_short ? T(0) : s * (T(1) - s) * along / length;
        for (int64_t m = 0; m < x.dim; ++m) gu[k + m * x.n] += s * gh[k + m * x.n] + slope * u[k + m * x.n];
      }
  }
}

// The perceptron's value at an atom's row; where `gradient` is given, `factor` times its derivative is added to that row.
template <class T>
double Engine<T>::read(const Readout<T>& readout, const T* h, Scratch& s, T* gradient, T factor) const {
  const size_t n = readout.steps.size();
  const int64_t width = readout.widest;
  T* inputs = s.mlp.reserve((2 * n + 2) * width);  // of every step, before the activation; then two rows of gradients
  std::copy(h + readout.start, h + readout.start + readout.steps[0].n_in, inputs);
  for (size_t i = 0; i < n; ++i) {
    const auto& step = readout.steps[i];
    const T* in = inputs + i * width;
    T* out = inputs + (i + 1) * width;
    std::copy(step.bias.begin(), step.bias.end(), out);
    for (int64_t a = 0; a < step.n_in; ++a) {
      const T x = i ? activate(readout.act, in[a]) : in[a];
      for (int64_t b = 0; b < step.n_out; ++b) out[b] += x * step.weights[a * step.n_out + b];
    }
  }
  const double value = inputs[n * width];
  if (!gradient) return value;
  T *here = inputs + (n + 1) * width, *before = here + width;
  here[0] = factor;
  for (size_t i = n; i-- > 0;) {
    const auto& step = readout.steps[i];
    for (int64_t a = 0; a < step.n_in; ++a) {
      T sum = 0;
      for (int64_t b = 0; b < step.n_out; ++b) sum += step.weights[a * step.n_out + b] * here[b];
      before[a] = i ? sum * activate_slope(readout.act, inputs[i * width + a]) : sum;
    }
    std::swap(here, before);
  }
  for (int64_t a = 0; a < readout.steps[0].n_in; ++a) gradient[readout.start + a] += here[a];
  return value;
}

template <class T>
void Engine<T>::forward(int t) {
  const auto& layer = model().layers[t];
  features_[t].reserve(n_local_ * layer.out_dim);
  if (layer.has_gate) before_gate_[t].reserve(n_local_ * layer.u_dim);
  if (layer.has_product || layer.has_density) densities_[t].reserve(n_local_ * layer.d_dim);
  if (layer.has_density) density_sums_[t].reserve(n_local_);
  for_blocks(n_local_, &Engine::forward_block, t);
  n_forward = t + 1;
  if (n_forward == n_layers()) n_backward = n_layers();
}

template <class T>
void Engine<T>::forward_block(int t, int64_t first, int64_t last, Scratch& s) {
  const auto& layer = model().layers[t];
  const int64_t n = last - first;
  const int32_t* types = types_.data() + first;
  T* h = features_[t].data() + first * layer.out_dim;
  T* u = layer.has_gate ? before_gate_[t].data() + first * layer.u_dim : h;
  T* d = layer.has_product || layer.has_density ? densities_[t].data() + first * layer.d_dim : u;
  T* sums = layer.has_density ? density_sums_[t].data() + first : nullptr;
  T* a = s.a.reserve(n * layer.a_dim);
  kernels<T>().convolve(layer.convolution, edges(), received(t), t == 0, first, last, a, sums);
  apply(layer.linear, false, n, types, a, d, false, s);
  if (layer.has_density)
    for (int64_t i = 0; i < n; ++i)
      for (int64_t k = 0; k < layer.d_dim; ++k) d[i * layer.d_dim + k] /= 1 + sums[i];
  if (layer.has_product) {
    T* b = s.b.reserve(n * layer.b_dim);
    kernels<T>().product(layer.product.polynomial, n, types, d, b);
    apply(layer.product_linear, false, n, types, b, u, false, s);
  } else if (d != u) {
    std::copy(d, d + n * layer.d_dim, u);
  }
  const T* old = nullptr;
  if (layer.has_self || layer.has_skip) {
    if (t == 0) {
      T* row = s.x.reserve(n * layer.h_dim);
      for (int64_t i = 0; i < n; ++i) std::copy_n(model().embedding.data() + types[i] * layer.h_dim, layer.h_dim, row + i * layer.h_dim);
      old = row;
    } else {
      old = features_[t - 1].data() + first * layer.h_dim;
    }
  }
  if (layer.has_self) apply(layer.self, false, n, types, old, u, true, s);
  if (layer.has_gate) open_gate(layer.gate, n, u, layer.u_dim, h, layer.out_dim, s);
  if (layer.has_skip) apply(layer.skip, false, n, types, old, h, true, s);
  if (layer.has_readout)
    for (int64_t i = 0; i < n; ++i) learned_[first + i] += read(layer.readout, h + i * layer.out_dim, s, nullptr, T(0));
  if (t + 1 < n_layers()) send(t + 1, first, last, s);
}

// What atoms send in layer t, from their features behind layer t - 1.
template <class T>
void Engine<T>::send(int t, int64_t first, int64_t last, Scratch& s) {
  const auto& layer = model().layers[t];
  const int64_t n = last - first, dim = layer.row_dim;
  const T* h = features_[t - 1].data() + first * layer.h_dim;
  T* sent = sent_[t].data() + first * dim;
  if (layer.has_up)
    apply(layer.up, false, n, types_.data() + first, h, sent, false, s);
  else
    std::copy(h, h + n * dim, sent);
  for (int64_t i = 0; i < n; ++i) {
    const T scale = layer.scale[types_[first + i]];
    for (int64_t k = 0; k < dim; ++k) sent[i * dim + k] *= scale;
  }
}

template <class T>
void Engine<T>::energies(double* energy, double* energies) const {
  double sum = 0;
  for (int64_t i = 0; i < n_local_; ++i) {
    const int z = types_[i];
    const double value = model().e0[z] + model().scale[z] * (learned_[i] - members_[current_]->bare[z]) + model().shift[z] + pair_[i];
    sum += value;
    if (energies) energies[order_.given(i)] = value;
  }
  if (energy) *energy = sum;
}

template <class T>
void Engine<T>::backward(int t) {
  const auto& layer = model().layers[t];
  const int64_t n_atoms = n_local_ + n_ghost_;
  ga_.reserve(n_local_ * layer.a_dim);
  if (layer.has_density) g_density_.reserve(n_local_);
  if (t > 0 && !self_in_features(t)) g_self_[t % 2].reserve(n_local_ * layer.h_dim);
  for_blocks(n_local_, &Engine::backward_block, t);
  const Edges<T> list = edges();
  pool.run((n_atoms + senders_per_task - 1) / senders_per_task, [&](int64_t b, int thread) {
    kernels<T>().convolve_back(layer.convolution, list, received(t), t == 0, ga_.data(), layer.has_density ? g_density_.data() : nullptr,
                               b * senders_per_task, std::min(n_atoms, (b + 1) * senders_per_task), scratch_[thread].x.reserve(layer.row_dim),
                               t > 0 ? sent_[t].data() : nullptr);
  });
  n_backward = t;
}

// The gradients of the features in front of layer t that do not come over edges. They take the place of these features unless a readout needs them yet.
template <class T>
T* Engine<T>::self_gradients(int t) {
  return self_in_features(t) ? features_[t - 1].data() : g_self_[t % 2].data();
}

template <class T>
void Engine<T>::backward_block(int t, int64_t first, int64_t last, Scratch& s) {
  const auto& layer = model().layers[t];
  const int64_t n = last - first, dim = layer.out_dim;
  const int32_t* types = types_.data() + first;
  // gh: of the features behind this layer, from the next one and from the readout
  T* gh = s.x.reserve(n * dim);
  clear(gh, n * dim);
  if (t + 1 < n_layers()) {
    const auto& next = model().layers[t + 1];
    T* sent = sent_[t + 1].data() + first * next.row_dim;
    for (int64_t i = 0; i < n; ++i) {
      const T scale = next.scale[types[i]];
      for (int64_t k = 0; k < next.row_dim; ++k) sent[i * next.row_dim + k] *= scale;
    }
    if (next.has_up)
      apply(next.up, true, n, types, sent, gh, true, s);
    else
      std::copy(sent, sent + n * dim, gh);
    if (next.has_self || next.has_skip) {
      const T* self = self_gradients(t + 1) + first * dim;
      for (int64_t k = 0; k < n * dim; ++k) gh[k] += self[k];
    }
  }
  if (layer.has_readout)
    for (int64_t i = 0; i < n; ++i)
      read(layer.readout, features_[t].data() + (first + i) * dim, s, gh + i * dim, static_cast<T>(model().scale[types[i]]));
  T* gu = gh;
  if (layer.has_gate) {
    gu = s.u.reserve(n * layer.u_dim);
    close_gate(layer.gate, n, before_gate_[t].data() + first * layer.u_dim, gu, layer.u_dim, gh, dim, s);
  }
  if (t > 0 && (layer.has_self || layer.has_skip)) {
    T* self = self_gradients(t) + first * layer.h_dim;
    if (layer.has_self) apply(layer.self, true, n, types, gu, self, false, s);
    if (layer.has_skip) apply(layer.skip, true, n, types, gh, self, layer.has_self, s);
  }
  T* gd = gu;
  const T* d = densities_[t].data() + (layer.has_product || layer.has_density ? first * layer.d_dim : 0);
  if (layer.has_product) {
    T* gb = s.b.reserve(n * layer.b_dim);
    apply(layer.product_linear, true, n, types, gu, gb, false, s);
    gd = s.d.reserve(n * layer.d_dim);
    kernels<T>().product_back(layer.product.polynomial, n, types, d, gb, gd);
  }
  if (layer.has_density)
    for (int64_t i = 0; i < n; ++i) {
      const T per = T(1) / (1 + density_sums_[t][first + i]);
      T sum = 0;
      for (int64_t k = 0; k < layer.d_dim; ++k) {
        sum += gd[i * layer.d_dim + k] * d[i * layer.d_dim + k];
        gd[i * layer.d_dim + k] *= per;
      }
      g_density_[first + i] = -sum * per;
    }
  apply(layer.linear, true, n, types, gd, ga_.data() + first * layer.a_dim, false, s);
}

template <class T>
void Engine<T>::forces(double* forces, double* virial, double* virials) {
  const int64_t n_atoms = n_local_ + n_ghost_;
  if (forces) {
    std::fill_n(forces, 3 * n_atoms, 0.0);
    for (int64_t j = 0; j < n_atoms; ++j) {
      double* own = forces + 3 * order_.given(j);
      for (int64_t e = sender_start_[j]; e < sender_start_[j + 1]; ++e) {
        double* other = forces + 3 * order_.given(receiver_[e]);
        for (int a = 0; a < 3; ++a) own[a] -= pull_[3 * e + a], other[a] += pull_[3 * e + a];
      }
    }
  }
  if (virial) std::fill_n(virial, 9, 0.0);
  if (virials) std::fill_n(virials, 9 * n_local_, 0.0);
  if (!virial && !virials) return;
  for (int64_t e = 0; e < n_edges_; ++e) {
    double w[9];
    for (int a = 0; a < 3; ++a)
      for (int b = 0; b < 3; ++b) w[3 * a + b] = -back_vectors_[3 * e + a] * pull_[3 * e + b];
    for (int c = 0; c < 9; ++c) {
      if (virial) virial[c] += w[c];
      if (virials) virials[9 * order_.given(receiver_[e]) + c] += w[c];
    }
  }
}

template <class T>
int64_t Engine<T>::bytes() const {
  int64_t sum = order_.bytes();
  const auto add = [&sum](const auto&... buffers) { ((sum += buffers.bytes()), ...); };
  for (const auto* list : {&sent_, &features_, &before_gate_, &densities_, &density_sums_})
    for (const auto& buffer : *list) add(buffer);
  for (const auto& s : scratch_) add(s.a, s.d, s.b, s.u, s.x, s.mlp);
  add(types_, sender_, receiver_, start_, sender_start_, cursor_, vectors_, back_vectors_, pull_, learned_, pair_, ga_, g_density_, g_self_[0], g_self_[1]);
  return sum;
}

template class Engine<float>;
template class Engine<double>;

}  // namespace eq
