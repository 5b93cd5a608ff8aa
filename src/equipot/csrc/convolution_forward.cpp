// The forward pass of the edge convolution; compiled once per instruction set.
#include "drive.hpp"

namespace EQUIPOT_NAMESPACE {
namespace {

EQUIPOT_PATH_FUNCTION(forward, forward, forward)

}  // namespace

void forward_f32(const Job<float>& job, int64_t first, int64_t last) { drive<false>(job, first, last, forward<float>, {}); }
void forward_f64(const Job<double>& job, int64_t first, int64_t last) { drive<false>(job, first, last, forward<double>, {}); }

}  // namespace EQUIPOT_NAMESPACE
