// The double backward pass of the edge convolution; compiled once per instruction set.
#include "drive.hpp"

namespace EQUIPOT_NAMESPACE {
namespace {

#define EQUIPOT_SECOND , true
EQUIPOT_PATH_FUNCTION(double_backward, double_backward, double_backward)
EQUIPOT_PATH_FUNCTION(gradient_y, gradient_y, template gradient_y<true>, EQUIPOT_SECOND)

template <class T>
void run(const Job<T>& job, int64_t first, int64_t last) {
  drive<true>(job, first, last, job.out || job.gh || job.gw ? double_backward<T> : nullptr, gradient_y<T>);
}

}  // namespace

void double_backward_f32(const Job<float>& job, int64_t first, int64_t last) { run(job, first, last); }
void double_backward_f64(const Job<double>& job, int64_t first, int64_t last) { run(job, first, last); }

}  // namespace EQUIPOT_NAMESPACE
