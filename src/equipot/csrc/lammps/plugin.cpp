// What LAMMPS's `plugin load` calls. The structure and the entry point are those of LAMMPS's manual ("Writing plugins"); LAMMPS's installed headers
// do not have them.
//
// A plugin sees LAMMPS's classes as they were when it was compiled, so another LAMMPS is refused before anything of it is touched but its errors.
#include "pair_equipot.h"

#include "error.h"
#include "lammps.h"

#include <dlfcn.h>

#include <string>

#include "equipot_engine.h"

#ifndef EQUIPOT_LAMMPS_VERSION
#error "EQUIPOT_LAMMPS_VERSION is to be LAMMPS's version, as in \"22 Jul 2025\""
#endif
#ifndef EQUIPOT_LAMMPS_NUMBER
#error "EQUIPOT_LAMMPS_NUMBER is to be the same as a number, as in 20250722"
#endif

using LAMMPS_NS::LAMMPS;

namespace {

struct Registration {
  const char *version;  // LAMMPS's that the plugin was compiled for
  const char *style;
  const char *name;
  const char *info;
  const char *author;
  union {
    void *(*one)(void *);
    void *(*two)(void *, int, char **);
  } creator;
  void *handle;
};
using Register = void (*)(Registration *, void *);

void *create(void *lmp) { return static_cast<LAMMPS_NS::Pair *>(new LAMMPS_NS::PairEquipot(static_cast<LAMMPS *>(lmp))); }

// Functions of LAMMPS's C interface, where it has them: an executable of one's own may not.
template <class Function>
Function *find(const char *name) {
  return reinterpret_cast<Function *>(dlsym(RTLD_DEFAULT, name));
}

std::string why_not(void *lmp) {
  const std::string again = ": run equipot lammps build again";
  if (eq_abi_version() != EQ_ABI_VERSION) return "the equipot plugin and its engine are of different versions" + again;
  const auto version = find<int(void *)>("lammps_version");
  if (version && version(lmp) != EQUIPOT_LAMMPS_NUMBER)
    return "the equipot plugin was built for LAMMPS " EQUIPOT_LAMMPS_VERSION ", this one is of " + std::to_string(version(lmp)) + again +
           ", with --lammps PATH";
  const auto setting = find<int(void *, const char *)>("lammps_extract_setting");
  if (setting && (setting(lmp, "tagint") != sizeof(LAMMPS_NS::tagint) || setting(lmp, "bigint") != sizeof(LAMMPS_NS::bigint) ||
                  setting(lmp, "imageint") != sizeof(LAMMPS_NS::imageint)))
    return "the equipot plugin was built for integers of other sizes than this LAMMPS has" + again + " with its -DLAMMPS_BIGBIG or the like";
  return "";
}

}  // namespace

extern "C" __attribute__((visibility("default"))) void lammpsplugin_init(void *lmp, void *handle, void *regfunc) {
  const std::string reason = why_not(lmp);
  if (!reason.empty()) static_cast<LAMMPS *>(lmp)->error->all(FLERR, reason);
  Registration plugin{};
  plugin.version = EQUIPOT_LAMMPS_VERSION;
  plugin.style = "pair";
  plugin.name = "equipot";
  plugin.info = "equivariant interatomic potentials of the equipot package";
  plugin.author = "equipot developers";
  plugin.creator.one = create;
  plugin.handle = handle;
  reinterpret_cast<Register>(regfunc)(&plugin, lmp);
}
