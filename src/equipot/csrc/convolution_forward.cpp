// The forward pass of the edge convolution; compiled once per instruction set.
#include "drive.hpp"

namespace EQUIPOT_NAMESPACE {
namespace {

template <class T, int L1, int L2, int L3>
struct Forward {
  static void run(Block<T>& block, const Path& path) {
    using Kernel = PathKernel<T, L1, L2, L3>;
    for_each_tile<T>(
        path, [&](int64_t k) { Kernel::template forward_tile<2, false>(block, path, k, 0); },
        [&](int64_t k, int64_t n) { Kernel::template forward_tile<1, true>(block, path, k, n); });
  }
};

template <class T>
struct ForwardPass {
  static constexpr bool second = false;
  static void run(Block<T>& block, const Path& path, bool) {
    static constexpr auto table = make_table<void(Block<T>&, const Path&), T, Forward>();
    if (specialised(path)) return table.run[path.l1][path.l2][path.l3](block, path);
    for (int64_t k = 0; k < path.n_channels; k += lanes<T>)
      GenericKernel<T>::forward_tile(block, path, k, path.n_channels - k < lanes<T> ? path.n_channels - k : lanes<T>);
  }
};

}  // namespace

void forward_f32(const Job<float>& job, int64_t first, int64_t last) { drive<float, ForwardPass>(job, first, last); }
void forward_f64(const Job<double>& job, int64_t first, int64_t last) { drive<double, ForwardPass>(job, first, last); }

}  // namespace EQUIPOT_NAMESPACE
