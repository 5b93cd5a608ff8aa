// Chooses the best instruction set of the machine when the library is first used.
#include "dispatch.hpp"

#include <atomic>
#include <cstring>

namespace equipot_baseline {
extern const equipot::Kernels kernels;
}
#ifdef EQUIPOT_X86
namespace equipot_avx2 {
extern const equipot::Kernels kernels;
}
namespace equipot_avx512 {
extern const equipot::Kernels kernels;
}
#endif

namespace equipot {
namespace {

struct Choice {
  const Kernels* kernels;
  bool supported;
};

// Best first.
template <class F>
void for_each_choice(F&& visit) {
#ifdef EQUIPOT_X86
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
  if (visit(Choice{&equipot_avx512::kernels, avx512})) return;
  if (visit(Choice{&equipot_avx2::kernels, avx2})) return;
#endif
  visit(Choice{&equipot_baseline::kernels, true});
}

const Kernels* best() {
  const Kernels* found = nullptr;
  for_each_choice([&](Choice c) { return c.supported && (found = c.kernels); });
  return found;
}

std::atomic<const Kernels*>& active() {
  static std::atomic<const Kernels*> kernels{best()};
  return kernels;
}

}  // namespace

const Kernels& active_kernels() { return *active().load(std::memory_order_acquire); }

}  // namespace equipot

const char* equipot_instruction_set(void) { return equipot::active_kernels().name; }

int equipot_set_instruction_set(const char* name) {
  if (!name) return EQUIPOT_BAD_ARGUMENT;
  const equipot::Kernels* found = nullptr;
  equipot::for_each_choice([&](equipot::Choice c) { return c.supported && !std::strcmp(name, c.kernels->name) && (found = c.kernels); });
  if (!found) return EQUIPOT_NOT_SUPPORTED;
  equipot::active().store(found, std::memory_order_release);
  return EQUIPOT_OK;
}

int equipot_abi_version(void) { return EQUIPOT_ABI_VERSION; }

const char* equipot_status_message(int status) {
  switch (status) {
    case EQUIPOT_OK: return "success";
    case EQUIPOT_BAD_ARGUMENT: return "a required array is missing or a size is negative";
    case EQUIPOT_BAD_PATH: return "a path or block has a degree out of range, no coupling, overlapping outputs, or lies outside its row";
    case EQUIPOT_BAD_INDEX: return "an index of the graph or a species is out of range, or row starts are not ascending";
    case EQUIPOT_OUT_OF_MEMORY: return "out of memory";
    case EQUIPOT_NOT_SUPPORTED: return "this machine or build lacks the instruction set";
    default: return "unknown status";
  }
}
