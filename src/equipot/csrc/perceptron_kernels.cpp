// The perceptron, a block of rows at a time through all its layers; compiled once per instruction set.
#include "activations.hpp"
#include "linear.hpp"
#include "perceptron.hpp"

namespace EQUIPOT_NAMESPACE {

extern const equipot::Linear<float> linear_f32;
extern const equipot::Linear<double> linear_f64;

namespace {

using equipot::perceptron_rows;
using equipot::PerceptronJob;
using equipot::Rows;

template <class T>
const equipot::Linear<T>& linear();
template <>
const equipot::Linear<float>& linear<float>() { return linear_f32; }
template <>
const equipot::Linear<double>& linear<double>() { return linear_f64; }

// The rows of a block, and products of them.
template <class T>
struct BlockRows {
  int64_t first, n;
  int64_t number[perceptron_rows];

  BlockRows(int64_t first_row, int64_t last) : first(first_row), n(last - first_row) {
    for (int64_t r = 0; r < n; ++r) number[r] = first + r;
  }
  void multiply(const T* from, int64_t from_stride, int64_t k_in, const T* w, T* to, int64_t to_stride, int64_t k_out) const {
    linear<T>().multiply({from, from_stride, k_in}, {to, to_stride, k_out}, number, n, 1, w);
  }
};

// one(row, column, lane) of every vector of `width` columns.
template <class T, class One>
EQUIPOT_INLINE void for_each_vector(const BlockRows<T>& rows, int64_t width, One one) {
  const Lanes<T, false> whole(0);
  const int64_t n = width / lanes<T> * lanes<T>;
  for (int64_t r = rows.first; r < rows.first + rows.n; ++r) {
    for (int64_t k = 0; k < n; k += lanes<T>) one(r, k, whole);
    if (n < width) one(r, n, Lanes<T, true>(width - n));
  }
}

// to = factor from, rows of `width` numbers.
template <class T>
void scale(const BlockRows<T>& rows, int64_t width, double factor, const T* from, T* to, int64_t to_stride) {
  const Vec<T> s = broadcast<T>(static_cast<T>(factor));
  for_each_vector(rows, width, [&](int64_t r, int64_t k, const auto& lane) { lane.store(to + r * to_stride + k, s * lane.load(from + r * width + k)); });
}

template <class T>
void forward(const PerceptronJob<T>& job, int64_t first, int64_t last) {
  const BlockRows<T> rows(first, last);
  const int64_t n = job.n_layers(), stride = job.left_stride(1);
  scale(rows, job.width(0), job.net->factors[0], job.x, job.left, stride);
  for (int64_t i = 1; i < n; ++i) {
    T *z = job.z_to + job.start[i], *a = job.left + job.left_start(1, i);
    rows.multiply(job.left + job.left_start(1, i - 1), stride, job.width(i - 1), job.w[i - 1], z, job.n_hidden, job.width(i));
    const Vec<T> s = broadcast<T>(static_cast<T>(job.net->factors[i]));
    for_each_vector(rows, job.width(i), [&](int64_t r, int64_t k, const auto& lane) {
      lane.store(a + r * stride + k, s * activation<T>(job.net->activation, lane.load(z + r * job.n_hidden + k)).value);
    });
  }
  rows.multiply(job.left + job.left_start(1, n - 1), stride, job.width(n - 1), job.w[n - 1], job.to, job.width(n), job.width(n));
}

template <class T>
void backward(const PerceptronJob<T>& job, int64_t first, int64_t last) {
  const BlockRows<T> rows(first, last);
  const int64_t n = job.n_layers(), stride = job.left_stride(1), hidden = job.n_hidden;
  if (job.weights) scale(rows, job.width(0), job.net->factors[0], job.x, job.left, stride);
  const T* d = job.g;
  int64_t d_stride = job.width(n);
  for (int64_t i = n - 1; i > 0; --i) {
    T *p = job.p_to + job.start[i], *pulled = job.right + job.start[i];
    rows.multiply(d, d_stride, job.width(i + 1), job.turned[i], p, hidden, job.width(i));
    const Vec<T> s = broadcast<T>(static_cast<T>(job.net->factors[i]));
    for_each_vector(rows, job.width(i), [&](int64_t r, int64_t k, const auto& lane) {
      const auto f = activation<T>(job.net->activation, lane.load(job.z + r * hidden + job.start[i] + k));
      lane.store(pulled + r * hidden + k, s * f.first * lane.load(p + r * hidden + k));
      if (job.weights) lane.store(job.left + r * stride + job.left_start(1, i) + k, s * f.value);
    });
    d = pulled, d_stride = hidden;
  }
  if (!job.gx) return;
  rows.multiply(d, d_stride, job.width(1), job.turned[0], job.gx, job.width(0), job.width(0));
  scale(rows, job.width(0), job.net->factors[0], job.gx, job.gx, job.width(0));
}

template <class T>
void double_backward(const PerceptronJob<T>& job, int64_t first, int64_t last) {
  const BlockRows<T> rows(first, last);
  const int64_t n = job.n_layers(), left = job.left_stride(2), hidden = job.n_hidden, right = 2 * hidden;
  scale(rows, job.width(0), job.net->factors[0], job.v, job.left, left);
  if (job.weights) scale(rows, job.width(0), job.net->factors[0], job.x, job.left + job.width(0), left);
  for (int64_t i = 1; i < n; ++i) {
    const int64_t width = job.width(i);
    T *along = job.left + job.left_start(2, i), *pulled = job.right + 2 * job.start[i];
    rows.multiply(job.left + job.left_start(2, i - 1), left, job.width(i - 1), job.w[i - 1], along, left, width);
    const Vec<T> s = broadcast<T>(static_cast<T>(job.net->factors[i]));
    for_each_vector(rows, width, [&](int64_t r, int64_t k, const auto& lane) {
      const auto f = activation<T>(job.net->activation, lane.load(job.z + r * hidden + job.start[i] + k));
      const Vec<T> tangent = lane.load(along + r * left + k), pull = lane.load(job.p + r * hidden + job.start[i] + k);
      lane.store(along + r * left + k, s * f.first * tangent);
      lane.store(along + r * left + width + k, s * f.value);
      lane.store(pulled + r * right + k, s * f.first * pull);
      lane.store(pulled + r * right + width + k, s * f.second * pull * tangent);
    });
  }
  if (job.to) rows.multiply(job.left + job.left_start(2, n - 1), left, job.width(n - 1), job.w[n - 1], job.to, job.width(n), job.width(n));
  if (!job.weights && !job.gx) return;
  for (int64_t i = n - 2; i > 0; --i) {
    const int64_t width = job.width(i), above = job.width(i + 1);
    T *q = job.scratch + job.start[i], *second = job.right + 2 * job.start[i] + width;
    rows.multiply(job.right + 2 * job.start[i + 1] + above, right, above, job.turned[i], q, hidden, width);
    const Vec<T> s = broadcast<T>(static_cast<T>(job.net->factors[i]));
    for_each_vector(rows, width, [&](int64_t r, int64_t k, const auto& lane) {
      const auto f = activation<T>(job.net->activation, lane.load(job.z + r * hidden + job.start[i] + k));
      lane.store(second + r * right + k, lane.load(second + r * right + k) + s * f.first * lane.load(q + r * hidden + k));
    });
  }
  if (!job.gx) return;
  rows.multiply(job.right + job.width(1), right, job.width(1), job.turned[0], job.gx, job.width(0), job.width(0));
  scale(rows, job.width(0), job.net->factors[0], job.gx, job.gx, job.width(0));
}

}  // namespace

extern const equipot::Perceptron<float> perceptron_f32;
extern const equipot::Perceptron<double> perceptron_f64;
const equipot::Perceptron<float> perceptron_f32 = {forward<float>, backward<float>, double_backward<float>};
const equipot::Perceptron<double> perceptron_f64 = {forward<double>, backward<double>, double_backward<double>};

}  // namespace EQUIPOT_NAMESPACE
