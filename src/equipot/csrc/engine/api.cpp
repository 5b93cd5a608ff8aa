// The C interface: arguments checked, calls in their order, exceptions turned into codes.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <new>
#include <string>
#include <variant>
#include <vector>

#include "engine.hpp"
#include "equipot_engine.h"

struct eq_engine {
  std::variant<std::unique_ptr<eq::Engine<float>>, std::unique_ptr<eq::Engine<double>>> engine;
  std::string error = "no error";

  template <class F>
  auto with(F&& f) {
    return std::visit([&](auto& e) { return f(*e); }, engine);
  }
  template <class F>
  auto with(F&& f) const {
    return std::visit([&](const auto& e) { return f(*e); }, engine);
  }
};

namespace {

int fail(eq_engine* e, int code, const char* message) {
  try {
    e->error = message;
  } catch (...) {
  }
  return code;
}

// Runs f(engine), which returns a code.
template <class F>
int guarded(eq_engine* e, F&& f) {
  if (!e) return EQ_BAD_ARGUMENT;
  try {
    return e->with(f);
  } catch (const std::bad_alloc&) {
    return fail(e, EQ_OUT_OF_MEMORY, "out of memory");
  } catch (const std::exception& error) {
    return fail(e, EQ_OUT_OF_MEMORY, error.what());
  }
}

void put(char* message, int64_t size, const std::string& text) {
  if (message && size > 0) std::snprintf(message, static_cast<size_t>(size), "%s", text.c_str());
}

int open(const unsigned char* bytes, int64_t size, int precision, eq_engine** engine) {
  const eq::File file(bytes, size);
  auto made = std::make_unique<eq_engine>();
  if (precision == EQ_FLOAT32)
    made->engine = std::make_unique<eq::Engine<float>>(file);
  else
    made->engine = std::make_unique<eq::Engine<double>>(file);
  *engine = made.release();
  return EQ_OK;
}

template <class F>
int open_guarded(int precision, eq_engine** engine, char* message, int64_t message_size, F&& f) {
  if (engine) *engine = nullptr;
  if (!engine || (precision != EQ_FLOAT32 && precision != EQ_FLOAT64)) {
    put(message, message_size, "precision must be EQ_FLOAT32 or EQ_FLOAT64");
    return EQ_BAD_ARGUMENT;
  }
  try {
    return f();
  } catch (const eq::BadFile& error) {
    put(message, message_size, error.what());
    return EQ_BAD_FILE;
  } catch (const std::bad_alloc&) {
    put(message, message_size, "out of memory");
    return EQ_OUT_OF_MEMORY;
  } catch (const std::exception& error) {
    put(message, message_size, error.what());
    return EQ_BAD_FILE;
  }
}

constexpr const char* bad_edges = "a type or an atom out of range, edge_start not ascending from 0, or positions that are not finite";

}  // namespace

int eq_abi_version(void) { return EQ_ABI_VERSION; }

int eq_open(const char* path, int precision, eq_engine** engine, char* message, int64_t message_size) {
  return open_guarded(precision, engine, message, message_size, [&] {
    if (!path) throw eq::BadFile("no path");
    const auto content = eq::read_bytes(path);
    return open(content.data(), static_cast<int64_t>(content.size()), precision, engine);
  });
}

int eq_open_memory(const void* bytes, int64_t size, int precision, eq_engine** engine, char* message, int64_t message_size) {
  return open_guarded(precision, engine, message, message_size, [&] {
    if (!bytes || size < 0) throw eq::BadFile("no bytes");
    return open(static_cast<const unsigned char*>(bytes), size, precision, engine);
  });
}

void eq_close(eq_engine* engine) { delete engine; }

const char* eq_error(const eq_engine* engine) { return engine ? engine->error.c_str() : "no engine"; }

int eq_set_threads(eq_engine* e, int n_threads) {
  return guarded(e, [&](auto& engine) -> int {
    if (n_threads < 1 || n_threads > 4096) return fail(e, EQ_BAD_ARGUMENT, "threads must be 1 to 4096");
    engine.pool.resize(n_threads);
    return EQ_OK;
  });
}

int eq_precision(const eq_engine* e) { return !e ? 0 : e->engine.index() == 0 ? EQ_FLOAT32 : EQ_FLOAT64; }
int eq_n_elements(const eq_engine* e) {
  return e ? e->with([](const auto& engine) { return engine.model().n_elements; }) : 0;
}
const int32_t* eq_elements(const eq_engine* e) {
  return e ? e->with([](const auto& engine) { return engine.model().elements.data(); }) : nullptr;
}
double eq_cutoff(const eq_engine* e) {
  return e ? e->with([](const auto& engine) { return engine.model().cutoff; }) : 0.0;
}
double eq_pair_cutoff(const eq_engine* e, int centre, int neighbour) {
  if (!e) return 0.0;
  return e->with([&](const auto& engine) {
    const int n = engine.model().n_elements;
    return centre < 0 || centre >= n || neighbour < 0 || neighbour >= n ? 0.0 : engine.model().pair_cutoffs[centre * n + neighbour];
  });
}
int eq_n_layers(const eq_engine* e) {
  return e ? e->with([](const auto& engine) { return engine.n_layers(); }) : 0;
}
int64_t eq_row_length(const eq_engine* e, int t) {
  return e ? e->with([&](const auto& engine) { return t < 0 || t >= engine.n_layers() ? int64_t{0} : engine.row_length(t); }) : 0;
}
const char* eq_header(const eq_engine* e) {
  return e ? e->with([](const auto& engine) { return engine.model().header.c_str(); }) : "";
}
int64_t eq_bytes(const eq_engine* e) {
  return e ? e->with([](const auto& engine) { return engine.bytes(); }) : 0;
}

int eq_n_members(const eq_engine* e) {
  return e ? e->with([](const auto& engine) { return engine.n_members(); }) : 0;
}

namespace {

// Where results of a member go; each may be null.
struct Outputs {
  double *energy, *energies, *forces, *virial, *virials;
};

// All layers of the member whose turn it is.
template <class E>
void run_member(E& engine, const Outputs& to) {
  for (int t = 0; t < engine.n_layers(); ++t) engine.forward(t);
  engine.energies(to.energy, to.energies);
  if (!to.forces && !to.virial && !to.virials) return;
  for (int t = engine.n_layers(); t-- > 0;) engine.backward(t);
  engine.forces(to.forces, to.virial, to.virials);
}

// Mean of the members seen so far and, where it is asked for, the sum of squared distances from it, each member's at a time.
struct Mean {
  double *to, *squares;
  int64_t n;
  int64_t per;  // numbers that share a square
  std::vector<double> one;

  Mean(double* mean, double* squares, int64_t n, int64_t per) : to(mean), squares(squares), n(n), per(per), one(mean || squares ? n : 0), own_(0) {
    if (!to && squares) own_.resize(n), to = own_.data();
    if (to) std::fill_n(to, n, 0.0);
    if (squares) std::fill_n(squares, n / per, 0.0);
  }
  double* part() { return one.empty() ? nullptr : one.data(); }
  void add(int m) {
    if (!to) return;
    for (int64_t k = 0; k < n; ++k) {
      const double away = one[k] - to[k];
      to[k] += away / (m + 1);
      if (squares) squares[k / per] += away * (one[k] - to[k]);
    }
  }
  void finish(int n_members) {
    if (squares)
      for (int64_t k = 0; k < n / per; ++k) squares[k] = std::sqrt(squares[k] / (n_members - 1));
  }

 private:
  std::vector<double> own_;
};

template <class E>
void run_ensemble(E& engine, int64_t n_atoms, const Outputs& to, double* energy_std, double* forces_std) {
  Mean energy(to.energy, energy_std, 1, 1), energies(to.energies, nullptr, n_atoms, 1), forces(to.forces, forces_std, 3 * n_atoms, 3),
      virial(to.virial, nullptr, 9, 1), virials(to.virials, nullptr, 9 * n_atoms, 1);
  for (int m = 0; m < engine.n_members(); ++m) {
    if (m > 0) engine.select(m);
    run_member(engine, {energy.part(), energies.part(), forces.part(), virial.part(), virials.part()});
    for (Mean* mean : {&energy, &energies, &forces, &virial, &virials}) mean->add(m);
  }
  for (Mean* mean : {&energy, &forces}) mean->finish(engine.n_members());
}

}  // namespace

int eq_compute(eq_engine* e, int64_t n_atoms, const int32_t* types, const double* positions, const double* cell, const int64_t* edge_start,
               const int32_t* sender, const int32_t* shift, double* energy, double* energies, double* forces, double* virial, double* virials) {
  return eq_compute_spread(e, n_atoms, types, positions, cell, edge_start, sender, shift, energy, energies, forces, virial, virials, nullptr, nullptr);
}

int eq_compute_spread(eq_engine* e, int64_t n_atoms, const int32_t* types, const double* positions, const double* cell, const int64_t* edge_start,
                      const int32_t* sender, const int32_t* shift, double* energy, double* energies, double* forces, double* virial, double* virials,
                      double* energy_std, double* forces_std) {
  return guarded(e, [&](auto& engine) -> int {
    if (n_atoms < 0 || (n_atoms > 0 && (!types || !positions || !edge_start || (edge_start[n_atoms] > 0 && !sender) || (shift && !cell))))
      return fail(e, EQ_BAD_ARGUMENT, "a required array is missing or a size is negative");
    if ((energy_std || forces_std) && engine.n_members() < 2) return fail(e, EQ_BAD_ARGUMENT, "one model alone has no spread");
    if (!engine.begin(n_atoms, types, positions, cell, edge_start, sender, shift)) return fail(e, EQ_BAD_INDEX, bad_edges);
    const Outputs to{energy, energies, forces, virial, virials};
    if (engine.n_members() == 1)
      run_member(engine, to);
    else
      run_ensemble(engine, n_atoms, to, energy_std, forces_std);
    return EQ_OK;
  });
}

int eq_next_member(eq_engine* e) {
  return guarded(e, [&](auto& engine) -> int {
    if (engine.n_forward < 0 || engine.member() + 1 >= engine.n_members())
      return fail(e, EQ_BAD_STATE, "there is no further member, or no configuration");
    engine.select(engine.member() + 1);
    return EQ_OK;
  });
}

int eq_begin(eq_engine* e, int64_t n_local, int64_t n_ghost, const int32_t* types, const int64_t* edge_start, const int32_t* sender,
             const double* vectors) {
  return guarded(e, [&](auto& engine) -> int {
    if (n_local < 0 || n_ghost < 0 || (n_local + n_ghost > 0 && !types) || (n_local > 0 && !edge_start) ||
        (n_local > 0 && edge_start[n_local] > 0 && (!sender || !vectors)))
      return fail(e, EQ_BAD_ARGUMENT, "a required array is missing or a size is negative");
    if (!engine.begin(n_local, n_ghost, types, edge_start, sender, vectors)) return fail(e, EQ_BAD_INDEX, bad_edges);
    return EQ_OK;
  });
}

int eq_forward_layer(eq_engine* e, int t) {
  return guarded(e, [&](auto& engine) -> int {
    if (t < 0 || t >= engine.n_layers()) return fail(e, EQ_BAD_ARGUMENT, "no such layer");
    if (engine.n_forward != t) return fail(e, EQ_BAD_STATE, "forward layers are run once each, in order, after eq_begin");
    engine.forward(t);
    return EQ_OK;
  });
}

void* eq_rows(eq_engine* e, int t) {
  if (!e) return nullptr;
  return e->with([&](auto& engine) -> void* {
    const bool there = engine.n_forward >= t && (engine.n_backward < 0 || engine.n_backward > t);  // else not yet, or gradients already
    return t >= 1 && t < engine.n_layers() && there ? engine.rows(t) : nullptr;
  });
}

int eq_energies(eq_engine* e, double* energy, double* energies) {
  return guarded(e, [&](auto& engine) -> int {
    if (engine.n_forward != engine.n_layers()) return fail(e, EQ_BAD_STATE, "energies come after the last forward layer");
    engine.energies(energy, energies);
    return EQ_OK;
  });
}

int eq_backward_layer(eq_engine* e, int t) {
  return guarded(e, [&](auto& engine) -> int {
    if (t < 0 || t >= engine.n_layers()) return fail(e, EQ_BAD_ARGUMENT, "no such layer");
    if (engine.n_backward != t + 1) return fail(e, EQ_BAD_STATE, "backward layers are run once each, from the last to the first, after all forward ones");
    engine.backward(t);
    return EQ_OK;
  });
}

void* eq_row_gradients(eq_engine* e, int t) {
  if (!e) return nullptr;
  return e->with([&](auto& engine) -> void* { return t < 1 || t >= engine.n_layers() || engine.n_backward != t ? nullptr : engine.row_gradients(t); });
}

int eq_forces(eq_engine* e, double* forces, double* virial, double* virials) {
  return guarded(e, [&](auto& engine) -> int {
    if (engine.n_backward != 0) return fail(e, EQ_BAD_STATE, "forces come after the last backward layer");
    engine.forces(forces, virial, virials);
    return EQ_OK;
  });
}
