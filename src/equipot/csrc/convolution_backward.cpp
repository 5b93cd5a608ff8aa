// The backward pass of the edge convolution; compiled once per instruction set.
#include "drive.hpp"

namespace EQUIPOT_NAMESPACE {
namespace {

template <class T, bool Y>
struct Backward {
  template <class, int L1, int L2, int L3>
  struct Of {
    static void run(Block<T>& block, const Path& path) {
      using Kernel = PathKernel<T, L1, L2, L3>;
      for_each_tile<T>(
          path, [&](int64_t k) { Kernel::template backward_tile<2, false, Y>(block, path, k, 0); },
          [&](int64_t k, int64_t n) { Kernel::template backward_tile<1, true, Y>(block, path, k, n); });
    }
  };
  static constexpr auto table = make_table<void(Block<T>&, const Path&), T, Of>();

  static void run(Block<T>& block, const Path& path) {
    if (specialised(path)) return table.run[path.l1][path.l2][path.l3](block, path);
    for (int64_t k = 0; k < path.n_channels; k += lanes<T>)
      GenericKernel<T>::template backward_tile<Y>(block, path, k, path.n_channels - k < lanes<T> ? path.n_channels - k : lanes<T>);
  }
};

template <class T>
struct BackwardPass {
  static constexpr bool second = false;
  static void run(Block<T>& block, const Path& path, bool with_y) {
    with_y ? Backward<T, true>::run(block, path) : Backward<T, false>::run(block, path);
  }
};

}  // namespace

void backward_f32(const Job<float>& job, int64_t first, int64_t last) { drive<float, BackwardPass>(job, first, last); }
void backward_f64(const Job<double>& job, int64_t first, int64_t last) { drive<double, BackwardPass>(job, first, last); }

}  // namespace EQUIPOT_NAMESPACE
