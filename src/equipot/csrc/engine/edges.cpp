// The list of edges of a configuration: those within the cutoff, in both orders, and the repulsion of nuclei.
#include <cmath>
#include <limits>

#include "engine.hpp"

namespace eq {

template <class T>
template <class Vector>
bool Engine<T>::list_edges(int64_t n_local, int64_t n_ghost, const int32_t* types, const int64_t* edge_start, const int32_t* sender, Vector vector) {
  const int64_t n_atoms = n_local + n_ghost, n_given = n_local ? edge_start[n_local] : 0;
  n_forward = n_backward = -1;
  if (n_given < 0 || n_given > std::numeric_limits<int32_t>::max() || n_atoms > std::numeric_limits<int32_t>::max()) return false;
  if (n_local && edge_start[0] != 0) return false;
  for (int64_t i = 0; i < n_local; ++i)
    if (edge_start[i + 1] < edge_start[i]) return false;
  int32_t* own = types_.reserve(n_atoms);
  for (int64_t i = 0; i < n_atoms; ++i) {
    if (types[i] < 0 || types[i] >= model().n_elements) return false;
    own[order_.place(static_cast<int32_t>(i))] = types[i];
  }
  int64_t* start = start_.reserve(n_local + 1);
  int32_t* j = sender_.reserve(n_given);
  double* v = vectors_.reserve(3 * n_given);
  int64_t n = 0;
  bool good = true;
  for (int64_t k = 0; k < n_local; ++k) {
    const int64_t i = order_.given(k);
    start[k] = n;
    for (int64_t e = edge_start[i]; e < edge_start[i + 1]; ++e) {
      if (sender[e] < 0 || sender[e] >= n_atoms) return false;
      double* to = v + 3 * n;
      vector(e, i, sender[e], to);
      const double squared = to[0] * to[0] + to[1] * to[1] + to[2] * to[2];
      const double cutoff = model().pair_cutoffs[types[i] * model().n_elements + types[sender[e]]];
      good = good && std::isfinite(squared);
      if (!(squared < cutoff * cutoff)) continue;
      j[n] = order_.place(sender[e]);
      ++n;
    }
  }
  start[n_local] = n;
  if (!good) return false;
  n_local_ = n_local, n_ghost_ = n_ghost, n_edges_ = n;
  sort_by_sender();
  select(0);
  return true;
}

template <class T>
void Engine<T>::select(int member) {
  current_ = member;
  double* pull = pull_.reserve(3 * n_edges_);
  for (int64_t e = 0; e < 3 * n_edges_; ++e) pull[e] = 0;
  double *learned = learned_.reserve(n_local_), *pair = pair_.reserve(n_local_);
  for (int64_t i = 0; i < n_local_; ++i) learned[i] = pair[i] = 0;
  if (model().zbl.on) add_repulsion();
  for (int t = 1; t < n_layers(); ++t) sent_[t].reserve((n_local_ + n_ghost_) * row_length(t));
  n_forward = 0, n_backward = -1;
}

template <class T>
bool Engine<T>::begin(int64_t n_local, int64_t n_ghost, const int32_t* types, const int64_t* edge_start, const int32_t* sender, const double* vectors) {
  order_.clear();  // the caller fills rows by its own indices
  return list_edges(n_local, n_ghost, types, edge_start, sender, [=](int64_t e, int64_t, int64_t, double* to) {
    for (int a = 0; a < 3; ++a) to[a] = vectors[3 * e + a];
  });
}

template <class T>
bool Engine<T>::begin(int64_t n_atoms, const int32_t* types, const double* positions, const double* cell, const int64_t* edge_start,
                      const int32_t* sender, const int32_t* shift) {
  if (n_atoms <= std::numeric_limits<int32_t>::max()) order_.sort(n_atoms, positions, cell);  // else refused
  return list_edges(n_atoms, 0, types, edge_start, sender, [=](int64_t e, int64_t i, int64_t j, double* to) {
    for (int a = 0; a < 3; ++a) to[a] = positions[3 * j + a] - positions[3 * i + a];
    if (shift)
      for (int b = 0; b < 3; ++b)
        if (shift[3 * e + b])
          for (int a = 0; a < 3; ++a) to[a] += shift[3 * e + b] * cell[3 * b + a];
  });
}

template <class T>
void Engine<T>::sort_by_sender() {
  const int64_t n_atoms = n_local_ + n_ghost_;
  int64_t *start = sender_start_.reserve(n_atoms + 1), *cursor = cursor_.reserve(n_atoms);
  for (int64_t j = 0; j <= n_atoms; ++j) start[j] = 0;
  for (int64_t e = 0; e < n_edges_; ++e) ++start[sender_[e] + 1];
  for (int64_t j = 0; j < n_atoms; ++j) start[j + 1] += start[j], cursor[j] = start[j];
  int32_t* receiver = receiver_.reserve(n_edges_);
  double* vectors = back_vectors_.reserve(3 * n_edges_);
  for (int64_t i = 0; i < n_local_; ++i)
    for (int64_t e = start_[i]; e < start_[i + 1]; ++e) {
      const int64_t at = cursor[sender_[e]]++;
      receiver[at] = static_cast<int32_t>(i);
      for (int a = 0; a < 3; ++a) vectors[3 * at + a] = vectors_[3 * e + a];
    }
}

// E_i = 1/2 sum_j q^2 Z Z'/r sum_n c_n exp(-d_n r/a) u(r/r_c), with the polynomial envelope u.
template <class T>
void Engine<T>::add_repulsion() {
  const Zbl& zbl = model().zbl;
  const double p = zbl.p;
  for (int64_t j = 0, e = 0; e < n_edges_; ++e) {
    while (e >= sender_start_[j + 1]) ++j;
    const int64_t i = receiver_[e];
    const double* pair = zbl.pairs.data() + 3 * (types_[i] * model().n_elements + types_[j]);
    const double* v = back_vectors_.data() + 3 * e;
    const double r = std::sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]), x = r / pair[2];
    if (x >= 1) continue;
    double screening = 0, slope = 0;
    for (int n = 0; n < 4; ++n) {
      const double part = zbl.c[n] * std::exp(-zbl.d[n] * r * pair[1]);
      screening += part, slope -= zbl.d[n] * pair[1] * part;
    }
    const double power = std::pow(x, p - 1);
    const double u = 1 - power * x * ((p + 1) * (p + 2) / 2 - x * (p * (p + 2) - p * (p + 1) / 2 * x));
    const double du = -p * (p + 1) * (p + 2) / 2 * power * (1 - x) * (1 - x) / pair[2];
    const double factor = pair[0] * (zbl.scaled ? model().scale[types_[i]] : 1.0), value = factor * screening / r;
    const double along = factor * slope / r - value / r;
    pair_[i] += value * u;
    for (int a = 0; a < 3; ++a) pull_[3 * e + a] += (along * u + value * du) * v[a] / r;
  }
}

template <class T>
Edges<T> Engine<T>::edges() const {
  return {types_.data(),        start_.data(),    sender_.data(),       vectors_.data(),
          sender_start_.data(), receiver_.data(), back_vectors_.data(), const_cast<double*>(pull_.data())};
}

template class Engine<float>;
template class Engine<double>;

}  // namespace eq
