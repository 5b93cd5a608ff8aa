// The computation: LAMMPS's atoms and neighbour list to the engine's, layers with their exchanges, results back.
#include "pair_equipot.h"

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "neigh_list.h"

#include <algorithm>
#include <cstring>

#include "equipot_engine.h"

using namespace LAMMPS_NS;

void PairEquipot::compute(int eflag, int vflag) {
  if (!checked) refuse_missing_neighbours();
  ev_init(eflag, vflag);
  number_atoms();
  list_edges();
  check(eq_begin(engine, n_local, n_ghost, types.data(), edge_start.data(), sender.data(), vectors.data()));

  const int n_members = eq_n_members(engine);
  for (int m = 0; m < n_members; ++m) {
    if (m > 0) check(eq_next_member(engine));
    run_layers();
    add_results(energy_unit / n_members);  // the mean of an ensemble
  }
}

void PairEquipot::run_layers() {
  const int n_layers = eq_n_layers(engine);
  for (int t = 0; t < n_layers; ++t) {
    if (t > 0) forward(t);
    check(eq_forward_layer(engine, t));
  }
  for (int t = n_layers; t-- > 0;) {
    check(eq_backward_layer(engine, t));
    if (t > 0) backward(t);
  }
}

// Those of this style only, LAMMPS's own first: what the engine wants, in LAMMPS's order.
void PairEquipot::number_atoms() {
  const int nall = atom->nlocal + atom->nghost;
  slot.resize(nall);
  types.clear();
  for (int i = 0; i < nall; ++i) {
    if (i == atom->nlocal) n_local = static_cast<int>(types.size());
    const int type = type_map[atom->type[i]];
    slot[i] = type < 0 ? -1 : static_cast<int>(types.size());
    if (type >= 0) types.push_back(type);
  }
  if (atom->nghost == 0) n_local = static_cast<int>(types.size());
  n_ghost = static_cast<int>(types.size()) - n_local;
}

void PairEquipot::list_edges() {
  const double reach = eq_cutoff(engine) * eq_cutoff(engine);
  double **x = atom->x;
  edge_start.assign(1, 0);
  sender.clear();
  vectors.clear();
  for (int i = 0; i < atom->nlocal; ++i) {
    if (slot[i] < 0) continue;
    const int *neighbours = list->firstneigh[i];
    for (int k = 0; k < list->numneigh[i]; ++k) {
      const int j = neighbours[k] & NEIGHMASK;
      const double dx = x[j][0] - x[i][0], dy = x[j][1] - x[i][1], dz = x[j][2] - x[i][2];
      // not "reach <= ...": a position that is not a number must reach the engine, which refuses it
      if (slot[j] < 0 || dx * dx + dy * dy + dz * dz >= reach) continue;
      sender.push_back(slot[j]);
      vectors.insert(vectors.end(), {dx, dy, dz});
    }
    edge_start.push_back(static_cast<int64_t>(sender.size()));
  }
}

// Those of the member just computed, times `unit`.
void PairEquipot::add_results(double unit) {
  double energy = 0.0, total[9];
  energies.resize(eflag_atom ? n_local : 0);
  check(eq_energies(engine, &energy, eflag_atom ? energies.data() : nullptr));
  if (eflag_global) eng_vdwl += unit * energy;
  forces.resize(3 * (static_cast<std::size_t>(n_local) + n_ghost));
  virials.resize(vflag_atom ? 9 * static_cast<std::size_t>(n_local) : 0);
  check(eq_forces(engine, forces.data(), vflag_global ? total : nullptr, vflag_atom ? virials.data() : nullptr));

  double **f = atom->f;
  for (std::size_t i = 0; i < slot.size(); ++i) {
    if (slot[i] < 0) continue;
    const double *force = &forces[3 * static_cast<std::size_t>(slot[i])];
    for (int a = 0; a < 3; ++a) f[i][a] += unit * force[a];
  }
  if (eflag_atom)
    for (int i = 0; i < atom->nlocal; ++i)
      if (slot[i] >= 0) eatom[i] += unit * energies[slot[i]];

  // xx yy zz xy xz yz
  const auto add = [unit](const double *w, double *v) {
    for (int a = 0; a < 3; ++a) v[a] += unit * w[4 * a];
    v[3] += 0.5 * unit * (w[1] + w[3]);
    v[4] += 0.5 * unit * (w[2] + w[6]);
    v[5] += 0.5 * unit * (w[5] + w[7]);
  };
  if (vflag_global) add(total, virial);
  if (vflag_atom)
    for (int i = 0; i < atom->nlocal; ++i)
      if (slot[i] >= 0) add(&virials[9 * static_cast<std::size_t>(slot[i])], vatom[i]);
}

void PairEquipot::forward(int layer) {
  set_exchange(layer, static_cast<char *>(eq_rows(engine, layer)));
  comm->forward_comm(this);
}

void PairEquipot::backward(int layer) {
  set_exchange(layer, static_cast<char *>(eq_row_gradients(engine, layer)));
  comm->reverse_comm(this);
}

void PairEquipot::set_exchange(int layer, char *from) {
  rows = from;
  row_bytes = static_cast<std::size_t>(eq_row_length(engine, layer)) * precision;
  row_doubles = static_cast<int>((row_bytes + sizeof(double) - 1) / sizeof(double));
  comm_forward = comm_reverse = row_doubles;  // what LAMMPS receives at most; its buffers were made for the longest row
}

int PairEquipot::pack_forward_comm(int n, int *atoms, double *buffer, int, int *) {
  for (int k = 0; k < n; ++k) {
    double *row = row_at(buffer, k);
    row[row_doubles - 1] = 0.0;  // half of it may stay unused
    if (slot[atoms[k]] >= 0) std::memcpy(row, rows + slot[atoms[k]] * row_bytes, row_bytes);
  }
  return n * row_doubles;
}

void PairEquipot::unpack_forward_comm(int n, int first, double *buffer) {
  for (int k = 0; k < n; ++k)
    if (slot[first + k] >= 0) std::memcpy(rows + slot[first + k] * row_bytes, row_at(buffer, k), row_bytes);
}

int PairEquipot::pack_reverse_comm(int n, int first, double *buffer) {
  for (int k = 0; k < n; ++k) {
    double *row = row_at(buffer, k);
    row[row_doubles - 1] = 0.0;
    if (slot[first + k] >= 0) std::memcpy(row, rows + slot[first + k] * row_bytes, row_bytes);
  }
  return n * row_doubles;
}

void PairEquipot::unpack_reverse_comm(int n, int *atoms, double *buffer) {
  const auto add = [this](auto number, char *to, const double *from) {
    const char *bytes = reinterpret_cast<const char *>(from);
    for (std::size_t c = 0; c < row_bytes; c += sizeof number) {
      auto sum = number;
      std::memcpy(&number, bytes + c, sizeof number);
      std::memcpy(&sum, to + c, sizeof sum);
      sum += number;
      std::memcpy(to + c, &sum, sizeof sum);
    }
  };
  for (int k = 0; k < n; ++k) {
    if (slot[atoms[k]] < 0) continue;
    char *row = rows + slot[atoms[k]] * row_bytes;
    if (precision == EQ_FLOAT32)
      add(0.0f, row, row_at(buffer, k));
    else
      add(0.0, row, row_at(buffer, k));
  }
}

void PairEquipot::check(int status) {
  if (status != EQ_OK) error->one(FLERR, std::string("pair_style equipot: ") + eq_error(engine));
}

double PairEquipot::memory_usage() {
  const auto bytes = [](const auto &v) { return static_cast<double>(v.capacity() * sizeof(v[0])); };
  return Pair::memory_usage() + bytes(slot) + bytes(types) + bytes(sender) + bytes(edge_start) + bytes(vectors) + bytes(energies) +
         bytes(forces) + bytes(virials);
}
