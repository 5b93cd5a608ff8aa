// pair_style equipot: a model of the design space in LAMMPS, by the native engine.
//
//   pair_style equipot [float32|float64]
//   pair_coeff * * model.eqn ELEMENT ...        one per atom type; NULL under hybrid for types of other styles
//
// Every rank computes its own atoms. Ghosts reach one cutoff: what more distant atoms do arrives in the rows that are exchanged before each layer
// (forward) and in the rows' gradients on the way back (reverse).
//
// Per-atom energies are site energies. The per-atom virial is that of the edges that end at the atom (W_i in equipot_engine.h), made symmetric.
#pragma once

#include "pair.h"

#include <cstdint>
#include <string>
#include <vector>

struct eq_engine;

namespace LAMMPS_NS {

class PairEquipot : public Pair {
 public:
  explicit PairEquipot(LAMMPS *);
  ~PairEquipot() override;

  void settings(int, char **) override;
  void coeff(int, char **) override;
  void init_style() override;
  double init_one(int, int) override;

  void compute(int, int) override;
  int pack_forward_comm(int, int *, double *, int, int *) override;
  void unpack_forward_comm(int, int, double *) override;
  int pack_reverse_comm(int, int, double *) override;
  void unpack_reverse_comm(int, int *, double *) override;
  double memory_usage() override;

 private:
  void allocate();
  void close();
  std::vector<char> read_on_one_rank(const char *path);
  void map_elements(int narg, char **arg);
  void refuse_what_would_be_wrong();
  void refuse_missing_neighbours();
  double pair_cutoff(int itype, int jtype) const;

  void number_atoms();
  void list_edges();
  void forward(int layer);
  void backward(int layer);
  void run_layers();
  void add_results(double unit);
  void set_exchange(int layer, char *rows);
  void check(int status);
  double *row_at(double *buffer, int k) const {
    return buffer + static_cast<std::size_t>(k) * row_doubles;
  }

  eq_engine *engine = nullptr;
  int wanted = 0;             // precision asked for; 0: as the model was trained
  int precision = 0;          // bytes of a number in the engine's rows
  double energy_unit = 1;     // of this simulation's units in an eV
  std::vector<int> type_map;  // [ntypes + 1] the engine's type, or -1: not of this style
  int longest_row = 0;        // doubles, of all layers
  bool checked = false;       // since init_style
  std::vector<char> asked;    // [(ntypes + 1)^2] pairs of types that LAMMPS gave to this style

  // one configuration; vectors only grow
  int n_local = 0, n_ghost = 0;     // atoms of this style
  std::vector<int> slot;            // [nlocal + nghost of LAMMPS] place among the engine's atoms, or -1
  std::vector<int32_t> types, sender;
  std::vector<int64_t> edge_start;
  std::vector<double> vectors, energies, forces, virials;

  // the exchange under way: rows as bytes, several to a double
  char *rows = nullptr;
  std::size_t row_bytes = 0;
  int row_doubles = 0;
};

}  // namespace LAMMPS_NS
