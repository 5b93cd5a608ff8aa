// What the input says, checked: every mistake is one message, given on all ranks alike.
#include "pair_equipot.h"

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "force.h"
#include "memory.h"
#include "neighbor.h"
#include "update.h"
#include "utils.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <fstream>
#include <iterator>

#include "equipot_engine.h"
#include "model_text.h"

using namespace LAMMPS_NS;

PairEquipot::PairEquipot(LAMMPS *lmp) : Pair(lmp) {
  single_enable = 0;
  restartinfo = 0;
  one_coeff = 1;
  manybody_flag = 1;
  no_virial_fdotr_compute = 1;  // the virial is summed over edges
  centroidstressflag = CENTROID_NOTAVAIL;
}

PairEquipot::~PairEquipot() {
  close();
  if (allocated && !copymode) {
    memory->destroy(setflag);
    memory->destroy(cutsq);
  }
}

void PairEquipot::close() {
  eq_close(engine);
  engine = nullptr;
}

void PairEquipot::settings(int narg, char **arg) {
  wanted = 0;
  if (narg == 1 && strcmp(arg[0], "float32") == 0)
    wanted = EQ_FLOAT32;
  else if (narg == 1 && strcmp(arg[0], "float64") == 0)
    wanted = EQ_FLOAT64;
  else if (narg != 0)
    error->all(FLERR, "pair_style equipot takes float32, float64 or nothing (as the model was trained)");
  if (!allocated) return;
  for (int i = 1; i <= atom->ntypes; ++i)  // a pair_coeff of before does not hold
    for (int j = 1; j <= atom->ntypes; ++j) setflag[i][j] = 0;
}

void PairEquipot::allocate() {
  allocated = 1;
  const int n = atom->ntypes + 1;
  memory->create(setflag, n, n, "pair:setflag");
  memory->create(cutsq, n, n, "pair:cutsq");
  for (int i = 0; i < n; ++i)
    for (int j = 0; j < n; ++j) cutsq[i][j] = setflag[i][j] = 0;
}

void PairEquipot::coeff(int narg, char **arg) {
  if (!allocated) allocate();
  if (narg < 3 || strcmp(arg[0], "*") != 0 || strcmp(arg[1], "*") != 0)
    error->all(FLERR, "pair_style equipot needs: pair_coeff * * MODEL.eqn ELEMENT ... (one element for each atom type)");
  if (narg != 3 + atom->ntypes)
    error->all(FLERR, "pair_coeff: there are " + std::to_string(atom->ntypes) + " atom types, but " + std::to_string(narg - 3) +
                          " elements follow " + arg[2]);

  const std::string path = arg[2];
  const auto bytes = read_on_one_rank(arg[2]);
  const auto open = [&](int precision) {
    close();
    char message[300] = "";
    if (eq_open_memory(bytes.data(), static_cast<int64_t>(bytes.size()), precision, &engine, message, sizeof message) != EQ_OK)
      error->all(FLERR, "pair_coeff: " + path + ": " + message);
  };
  open(wanted == 0 ? EQ_FLOAT32 : wanted);
  if (wanted == 0 && equipot::text_of_key(eq_header(engine), "dtype") == "float64") open(EQ_FLOAT64);
  precision = eq_precision(engine);
  map_elements(narg - 3, arg + 3);

  longest_row = 0;
  for (int t = 1; t < eq_n_layers(engine); ++t)
    longest_row = std::max(longest_row, static_cast<int>((eq_row_length(engine, t) * precision + 7) / 8));
  if (comm->me == 0)
    utils::logmesg(lmp, "  equipot: {}: {}{} layers, cutoff {:g} A, {}, {} kernels\n", path,
                   eq_n_members(engine) > 1 ? "mean of " + std::to_string(eq_n_members(engine)) + " models, " : "", eq_n_layers(engine), eq_cutoff(engine),
                   precision == EQ_FLOAT64 ? "float64" : "float32", eq_instruction_set());
}

// Read once, sent to all: a file that one rank cannot see must not leave the others waiting.
std::vector<char> PairEquipot::read_on_one_rank(const char *path) {
  std::vector<char> bytes;
  bigint size = -1;
  if (comm->me == 0) try {
      std::ifstream file(path, std::ios::binary);
      if (file) bytes.assign(std::istreambuf_iterator<char>(file), {});
      if (file) size = static_cast<bigint>(bytes.size());
    } catch (const std::exception &) {  // a folder, say
    }
  MPI_Bcast(&size, 1, MPI_LMP_BIGINT, 0, world);
  if (size < 0) error->all(FLERR, std::string("pair_coeff: cannot read the model file ") + path);
  if (size > MAXSMALLINT) error->all(FLERR, std::string("pair_coeff: ") + path + " is too large for a model file");
  bytes.resize(size);
  MPI_Bcast(bytes.data(), static_cast<int>(size), MPI_CHAR, 0, world);
  return bytes;
}

void PairEquipot::map_elements(int narg, char **arg) {
  const int32_t *begin = eq_elements(engine), *end = begin + eq_n_elements(engine);
  std::string known;
  for (const int32_t *z = begin; z != end; ++z) known += std::string(" ") + equipot::symbol(*z);
  const bool hybrid = utils::strmatch(force->pair_style, "^hybrid");

  type_map.assign(atom->ntypes + 1, -1);
  for (int i = 0; i < narg; ++i) {
    const std::string type = "atom type " + std::to_string(i + 1);
    if (strcmp(arg[i], "NULL") == 0) {
      if (!hybrid) error->all(FLERR, "pair_coeff: " + type + " is NULL, which only pair_style hybrid allows: the model knows" + known);
      continue;
    }
    const int32_t *found = std::find(begin, end, equipot::atomic_number(arg[i]));
    if (found == end) error->all(FLERR, "pair_coeff: " + type + " is " + arg[i] + ", but the model knows" + known);
    type_map[i + 1] = static_cast<int>(found - begin);
  }
  for (int i = 1; i <= atom->ntypes; ++i)
    for (int j = i; j <= atom->ntypes; ++j) setflag[i][j] = type_map[i] >= 0 && type_map[j] >= 0;
}

void PairEquipot::init_style() {
  if (strcmp(update->unit_style, "metal") == 0)
    energy_unit = 1.0;
  else if (strcmp(update->unit_style, "real") == 0)
    energy_unit = utils::get_conversion_factor(utils::ENERGY, utils::METAL2REAL);
  else
    error->all(FLERR, std::string("pair_style equipot needs units metal or real, not ") + update->unit_style);
  refuse_what_would_be_wrong();
  checked = false;
  asked.assign(static_cast<std::size_t>(atom->ntypes + 1) * (atom->ntypes + 1), 0);
  // LAMMPS makes its buffers for these next; after an exchange they are of its layer, and hybrid asked for them before there was a model
  comm_forward = comm_reverse = longest_row;
  force->pair->comm_forward = std::max(force->pair->comm_forward, comm_forward);
  force->pair->comm_reverse = std::max(force->pair->comm_reverse, comm_reverse);
  neighbor->add_request(this, NeighConst::REQ_FULL);
}

void PairEquipot::refuse_what_would_be_wrong() {
  if (!force->newton_pair) error->all(FLERR, "pair_style equipot needs newton on for pairs: forces act on ghost atoms");
  if (atom->firstgroupname)  // comm_modify group and neigh_modify include need it, and leave atoms out
    error->all(FLERR, "pair_style equipot needs all neighbours: take atom_modify first away");
  if (atom->molecular != Atom::ATOMIC && atom->nbonds > 0)
    for (int k = 1; k <= 3; ++k)
      if (force->special_lj[k] == 0.0 && force->special_coul[k] == 0.0)
        error->all(FLERR, "pair_style equipot needs all neighbours, but special_bonds takes bonded ones away: set special_bonds lj/coul 1 1 1");
}

double PairEquipot::init_one(int i, int j) {
  asked[static_cast<std::size_t>(i) * (atom->ntypes + 1) + j] = asked[static_cast<std::size_t>(j) * (atom->ntypes + 1) + i] = 1;
  return pair_cutoff(i, j);
}

double PairEquipot::pair_cutoff(int i, int j) const {
  return std::max(eq_pair_cutoff(engine, type_map[i], type_map[j]), eq_pair_cutoff(engine, type_map[j], type_map[i]));
}

// What LAMMPS knows only after all styles are initialised; an error before would leave its neighbour lists half made.
void PairEquipot::refuse_missing_neighbours() {
  checked = true;
  if (neighbor->exclude)
    error->all(FLERR, "pair_style equipot needs all neighbours: take neigh_modify exclude away (fix setforce holds atoms still)");
  const int n = atom->ntypes + 1;
  for (int i = 1; i < n; ++i)
    for (int j = i; j < n; ++j)
      if (type_map[i] >= 0 && type_map[j] >= 0 && !asked[static_cast<std::size_t>(i) * n + j])
        error->all(FLERR, "pair_style equipot needs all pairs of its atom types, but another style of hybrid has " + std::to_string(i) + " " +
                              std::to_string(j) + ": use hybrid/overlay");
}
