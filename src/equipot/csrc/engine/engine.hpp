// The stages of a computation, as the header describes them.
#pragma once

#include <memory>
#include <vector>

#include "buffer.hpp"
#include "model.hpp"
#include "order.hpp"
#include "pool.hpp"

namespace eq {

// The list and the features of one configuration, and the working memory of all.
template <class T>
class Engine {
 public:
  explicit Engine(const File& file);

  Pool pool;

  // That of the member whose turn it is. All members have the same elements, cutoffs and lengths of rows.
  const Model<T>& model() const { return members_[current_]->model; }
  int n_members() const { return static_cast<int>(members_.size()); }
  int member() const { return current_; }
  int n_layers() const { return static_cast<int>(model().layers.size()); }
  int64_t row_length(int t) const { return model().layers[t].row_dim; }

  // What a call may do now: layers done forward, and those left backward.
  int n_forward = -1, n_backward = -1;

  // Edges that are not finite or indices out of range leave everything as it was and give false.
  bool begin(int64_t n_local, int64_t n_ghost, const int32_t* types, const int64_t* edge_start, const int32_t* sender, const double* vectors);
  // The same from positions; see eq_compute.
  bool begin(int64_t n_atoms, const int32_t* types, const double* positions, const double* cell, const int64_t* edge_start, const int32_t* sender,
             const int32_t* shift);
  // Another member, on the same atoms and edges; after begin it is the first.
  void select(int member);
  void forward(int t);
  void energies(double* energy, double* energies) const;
  void backward(int t);
  void forces(double* forces, double* virial, double* virials);
  T* rows(int t) { return sent_[t].data(); }
  T* row_gradients(int t) { return sent_[t].data(); }
  // Held for configurations; it only grows.
  int64_t bytes() const;

 private:
  struct Member {
    explicit Member(const File& file) : model(file) {}
    Model<T> model;
    std::vector<T> first;      // what is sent in the first layer, by element
    std::vector<double> bare;  // [n_elements]
  };
  // Rows of one block of atoms, one set per thread.
  struct Scratch {
    Buffer<T> a, d, b, u, x, mlp, gate;
    std::vector<const T*> from;
    std::vector<T*> to;
    std::vector<int32_t> picked;
  };

  template <class Vector>
  bool list_edges(int64_t n_local, int64_t n_ghost, const int32_t* types, const int64_t* edge_start, const int32_t* sender, Vector vector);
  void send_first();
  const T* received(int t) const { return t == 0 ? members_[current_]->first.data() : sent_[t].data(); }
  void sort_by_sender();
  void add_repulsion();
  void forward_block(int t, int64_t first, int64_t last, Scratch& s);
  void backward_block(int t, int64_t first, int64_t last, Scratch& s);
  void send(int t, int64_t first, int64_t last, Scratch& s);
  void apply(const Linear<T>& linear, bool transposed, int64_t n, const int32_t* types, const T* x, T* y, bool add, Scratch& s) const;
  void open_gate(const Gate& gate, int64_t n, const T* u, int64_t u_dim, T* h, int64_t h_dim, Scratch& s) const;
  void close_gate(const Gate& gate, int64_t n, const T* u, T* gu, int64_t u_dim, const T* gh, int64_t h_dim, Scratch& s) const;
  double read(const Readout<T>& readout, const T* h, Scratch& s, T* gradient, T factor) const;
  void for_blocks(int64_t n, void (Engine::*step)(int, int64_t, int64_t, Scratch&), int t);
  bool self_in_features(int t) const { return !model().layers[t - 1].has_readout; }
  T* self_gradients(int t);
  void measure_bare_atoms();
  Edges<T> edges() const;

  int64_t n_local_ = 0, n_ghost_ = 0, n_edges_ = 0, block_ = 16;
  std::vector<std::unique_ptr<Member>> members_;
  int current_ = 0;
  // per layer, those of the first are empty; on the way back sent_ becomes its own gradient. Members use them one after another.
  std::vector<Buffer<T>> sent_, features_, before_gate_, densities_, density_sums_;
  Buffer<int32_t> types_, sender_, receiver_;
  Buffer<int64_t> start_, sender_start_, cursor_;
  Buffer<double> vectors_, back_vectors_, pull_, learned_, pair_;
  Buffer<T> ga_, g_density_, g_self_[2];
  Order order_;  // all buffers of atoms are in it; arrays of the caller in the caller's own
  std::vector<Scratch> scratch_;
};

}  // namespace eq
