// Chooses the best instruction set of the machine when the first model is opened.
#include <cstdlib>
#include <cstring>

#include "equipot_engine.h"
#include "kernels.hpp"

namespace eq_baseline {
extern const eq::KernelSet kernel_set;
}
#ifdef EQUIPOT_X86
namespace eq_avx2 {
extern const eq::KernelSet kernel_set;
}
namespace eq_avx512 {
extern const eq::KernelSet kernel_set;
}
#endif

namespace eq {
namespace {

// Whether a set may be taken: any, or only the one that EQUIPOT_INSTRUCTION_SET names.
bool wanted(const KernelSet& set) {
  const char* asked = std::getenv("EQUIPOT_INSTRUCTION_SET");
  return !asked || !*asked || std::strcmp(asked, set.name) == 0;
}

const KernelSet* best() {
#ifdef EQUIPOT_X86
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512bw");
  if (avx512 && wanted(eq_avx512::kernel_set)) return &eq_avx512::kernel_set;
  if (avx2 && wanted(eq_avx2::kernel_set)) return &eq_avx2::kernel_set;
#endif
  return &eq_baseline::kernel_set;
}

}  // namespace

const KernelSet& kernel_set() {
  static const KernelSet* chosen = best();
  return *chosen;
}

template <>
const Kernels<float>& kernels<float>() {
  return kernel_set().f32;
}
template <>
const Kernels<double>& kernels<double>() {
  return kernel_set().f64;
}

}  // namespace eq

const char* eq_instruction_set(void) { return eq::kernel_set().name; }
