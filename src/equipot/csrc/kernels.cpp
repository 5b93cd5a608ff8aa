// The table of one instruction set's kernels, and the small kernels; compiled once per instruction set.
#include "block.hpp"

namespace EQUIPOT_NAMESPACE {

void forward_f32(const Job<float>&, int64_t, int64_t);
void forward_f64(const Job<double>&, int64_t, int64_t);
void backward_f32(const Job<float>&, int64_t, int64_t);
void backward_f64(const Job<double>&, int64_t, int64_t);
void double_backward_f32(const Job<float>&, int64_t, int64_t);
void double_backward_f64(const Job<double>&, int64_t, int64_t);
extern const equipot::Linear<float> linear_f32;
extern const equipot::Linear<double> linear_f64;
extern const equipot::Product<float> product_f32;
extern const equipot::Product<double> product_f64;
extern const equipot::Gate<float> gate_f32;
extern const equipot::Gate<double> gate_f64;
extern const equipot::Harmonics<float> harmonics_f32;
extern const equipot::Harmonics<double> harmonics_f64;
extern const equipot::Bessel<float> bessel_f32;
extern const equipot::Bessel<double> bessel_f64;
extern const equipot::Perceptron<float> perceptron_f32;
extern const equipot::Perceptron<double> perceptron_f64;

namespace {

// gh of NB vectors of columns from k: the sum of the sender's edges in the order of by_sender.
template <class T, int NB, bool TAIL>
void gather_tile(const Job<T>& job, int64_t sender, int64_t k, int64_t n_lanes) {
  const Lanes<T, TAIL> lane(n_lanes);
  const int64_t stride = job.plan->h_dim;
  Vec<T> sum[NB] = {};
  for (int64_t i = job.edges->sender_start[sender]; i < job.edges->sender_start[sender + 1]; ++i) {
    const T* row = job.work + job.edges->by_sender[i] * stride + k;
    for (int b = 0; b < NB; ++b) sum[b] += lane.load(row + b * lanes<T>);
  }
  for (int b = 0; b < NB; ++b) lane.store(job.gh + sender * stride + k + b * lanes<T>, sum[b]);
}

template <class T>
void gather(const Job<T>& job, int64_t first, int64_t last) {
  constexpr int wide = 6;
  for (int64_t sender = first; sender < last; ++sender) {
    int64_t k = 0;
    const int64_t n = job.plan->h_dim;
    for (; n - k >= wide * lanes<T>; k += wide * lanes<T>) gather_tile<T, wide, false>(job, sender, k, 0);
    for (; n - k >= lanes<T>; k += lanes<T>) gather_tile<T, 1, false>(job, sender, k, 0);
    if (k < n) gather_tile<T, 1, true>(job, sender, k, n - k);
  }
}

// gw of pairs of two edges.
template <class T>
void fold(const Job<T>& job, int64_t first, int64_t last) {
  const int64_t n = job.plan->w_dim;
  for (int64_t p = first; p < last; ++p) {
    if (job.edges->pair_edges[2 * p] == job.edges->pair_edges[2 * p + 1]) continue;
    T* to = job.gw + p * n;
    const T* from = job.gw_second + p * n;
    for (int64_t k = 0; k < n; ++k) to[k] += from[k];
  }
}

}  // namespace

extern const equipot::Kernels kernels;
const equipot::Kernels kernels = {
    EQUIPOT_NAME,
    {forward_f32, backward_f32, double_backward_f32, gather<float>, fold<float>},
    {forward_f64, backward_f64, double_backward_f64, gather<double>, fold<double>},
    &linear_f32,
    &linear_f64,
    &product_f32,
    &product_f64,
    &gate_f32,
    &gate_f64,
    &harmonics_f32,
    &harmonics_f64,
    &bessel_f32,
    &bessel_f64,
    &perceptron_f32,
    &perceptron_f64,
};

}  // namespace EQUIPOT_NAMESPACE
