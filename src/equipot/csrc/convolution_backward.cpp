// The backward pass of the edge convolution; compiled once per instruction set.
#include "drive.hpp"

namespace EQUIPOT_NAMESPACE {
namespace {

#define EQUIPOT_FIRST , false
EQUIPOT_PATH_FUNCTION(backward, backward, backward)
EQUIPOT_PATH_FUNCTION(gradient_y, gradient_y, template gradient_y<false>, EQUIPOT_FIRST)

template <class T>
void run(const Job<T>& job, int64_t first, int64_t last) {
  drive<false>(job, first, last, job.gh || job.gw ? backward<T> : nullptr, gradient_y<T>);
}

}  // namespace

void backward_f32(const Job<float>& job, int64_t first, int64_t last) { run(job, first, last); }
void backward_f64(const Job<double>& job, int64_t first, int64_t last) { run(job, first, last); }

}  // namespace EQUIPOT_NAMESPACE
