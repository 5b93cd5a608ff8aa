// The harmonics, vectors of edges; compiled once per instruction set.
#include "columns.hpp"
#include "harmonics.hpp"

namespace EQUIPOT_NAMESPACE {
namespace {

using equipot::HarmonicsJob;

constexpr int max_l = EQUIPOT_MAX_L;
constexpr int max_y = (max_l + 1) * (max_l + 1);

// A number and its derivative along a direction: the derivative of a formula is the formula of these.
template <class T>
struct Dual {
  Vec<T> value, slope;
};
template <class T>
EQUIPOT_INLINE Dual<T> operator+(Dual<T> a, Dual<T> b) { return {a.value + b.value, a.slope + b.slope}; }
template <class T>
EQUIPOT_INLINE Dual<T> operator-(Dual<T> a, Dual<T> b) { return {a.value - b.value, a.slope - b.slope}; }
template <class T>
EQUIPOT_INLINE Dual<T> operator*(Dual<T> a, Dual<T> b) { return {a.value * b.value, a.value * b.slope + a.slope * b.value}; }
template <class T>
EQUIPOT_INLINE Dual<T> operator*(Dual<T> a, typename Simd<T>::V b) { return {a.value * b, a.slope * b}; }

template <class T>
EQUIPOT_INLINE Vec<T> square_root(Vec<T> x) {
  Vec<T> root;
  for (int i = 0; i < lanes<T>; ++i) root[i] = sizeof(T) == 4 ? __builtin_sqrtf(x[i]) : __builtin_sqrt(x[i]);
  return root;
}
#if defined(__AVX512F__)
template <>
EQUIPOT_INLINE Vec<float> square_root<float>(Vec<float> x) { return _mm512_sqrt_ps(x); }
template <>
EQUIPOT_INLINE Vec<double> square_root<double>(Vec<double> x) { return _mm512_sqrt_pd(x); }
#elif defined(__AVX2__)
template <>
EQUIPOT_INLINE Vec<float> square_root<float>(Vec<float> x) { return _mm256_sqrt_ps(x); }
template <>
EQUIPOT_INLINE Vec<double> square_root<double>(Vec<double> x) { return _mm256_sqrt_pd(x); }
#endif

// v and 1 / |v|, which is 1 for v = 0.
template <class T>
EQUIPOT_INLINE Vec<T> read_vectors(const T* rows, int n, Vec<T>* v) {
  read_columns(rows, 3, 3, n, v);
  const Vec<T> squared = v[0] * v[0] + v[1] * v[1] + v[2] * v[2], one = broadcast<T>(1);
  return squared == Vec<T>{} ? one : one / square_root<T>(squared);  // not a number stays that
}

// Numbers, and directions n = v / |v| of edges from e on.
template <class T>
struct Plain {
  using Number = Vec<T>;
  Number n[3], inverse;
  static EQUIPOT_INLINE Number of(Vec<T> c) { return c; }
  EQUIPOT_INLINE Plain(const HarmonicsJob<T>& job, int64_t e, int size) {
    Vec<T> v[3];
    inverse = read_vectors(job.v + 3 * e, size, v);
    EQUIPOT_UNROLL for (int j = 0; j < 3; ++j) n[j] = v[j] * inverse;
  }
};

// The same, with derivatives along u.
template <class T>
struct Tangent {
  using Number = Dual<T>;
  Number n[3], inverse;
  static EQUIPOT_INLINE Number of(Vec<T> c) { return {c, Vec<T>{}}; }
  EQUIPOT_INLINE Tangent(const HarmonicsJob<T>& job, int64_t e, int size) {
    Vec<T> v[3], u[3];
    inverse.value = read_vectors(job.v + 3 * e, size, v);
    read_columns(job.u + 3 * e, 3, 3, size, u);
    EQUIPOT_UNROLL for (int j = 0; j < 3; ++j) n[j].value = v[j] * inverse.value;
    const Vec<T> along = (n[0].value * u[0] + n[1].value * u[1] + n[2].value * u[2]) * inverse.value;  // for v = 0 n is 0, and so is this
    inverse.slope = -along * inverse.value;
    EQUIPOT_UNROLL for (int j = 0; j < 3; ++j) n[j].slope = u[j] * inverse.value - n[j].value * along;
  }
};

// Q_lm(y), and cosine + i sine = (z + ix)^m.
template <class T, class N>
struct Factors {
  typename N::Number q[max_l + 1][max_l + 1], cosine[max_l + 1], sine[max_l + 1];

  EQUIPOT_INLINE Factors(const HarmonicsJob<T>& job, const N& frame) {
    const auto &x = frame.n[0], &y = frame.n[1], &z = frame.n[2];
    const auto& t = *job.tables;
    cosine[0] = N::of(broadcast<T>(1)), sine[0] = N::of(Vec<T>{});
    for (int m = 0; m <= job.l_max; ++m) {
      if (m) cosine[m] = z * cosine[m - 1] - x * sine[m - 1], sine[m] = z * sine[m - 1] + x * cosine[m - 1];
      q[m][m] = N::of(broadcast<T>(t.diagonal[m]));
      if (m < job.l_max) q[m + 1][m] = y * broadcast<T>(t.up[m + 1][m] * t.diagonal[m]);
      for (int l = m + 2; l <= job.l_max; ++l)
        q[l][m] = y * q[l - 1][m] * broadcast<T>(t.up[l][m]) - q[l - 2][m] * broadcast<T>(t.down[l][m]);
    }
  }

  EQUIPOT_INLINE void values(int l_max, typename N::Number* y) const {
    for (int l = 0; l <= l_max; ++l) {
      auto* row = y + l * l + l;
      row[0] = q[l][0];
      for (int m = 1; m <= l; ++m) row[m] = q[l][m] * cosine[m], row[-m] = q[l][m] * sine[m];
    }
  }

  // The gradient of <g, Y> with respect to v.
  EQUIPOT_INLINE void gradient(const HarmonicsJob<T>& job, const N& frame, const Vec<T>* g, typename N::Number* to) const {
    using Number = typename N::Number;
    const Number zero = N::of(Vec<T>{});
    Number d[3] = {zero, zero, zero};
    for (int m = 0; m <= job.l_max; ++m) {
      Number a = zero, b = zero, a_slope = zero, b_slope = zero;
      for (int l = m; l <= job.l_max; ++l) {
        const Vec<T>*row = g + l * l + l, plus = row[m], minus = row[-m];
        a = a + q[l][m] * plus, b = b + q[l][m] * minus;
        if (l == m) continue;
        const Number slope = q[l][m + 1] * broadcast<T>(job.tables->slope[l][m]);
        a_slope = a_slope + slope * plus, b_slope = b_slope + slope * minus;
      }
      d[1] = d[1] + a_slope * cosine[m] + b_slope * sine[m];  // sine[0] is 0
      if (!m) continue;
      const Vec<T> factor = broadcast<T>(static_cast<T>(m));
      d[0] = d[0] + (b * cosine[m - 1] - a * sine[m - 1]) * factor;
      d[2] = d[2] + (a * cosine[m - 1] + b * sine[m - 1]) * factor;
    }
    const Number along = d[0] * frame.n[0] + d[1] * frame.n[1] + d[2] * frame.n[2];
    EQUIPOT_UNROLL for (int j = 0; j < 3; ++j) to[j] = (d[j] - along * frame.n[j]) * frame.inverse;
  }
};

struct Forward {
  template <class T>
  static EQUIPOT_INLINE void run(const HarmonicsJob<T>& job, int64_t e, int size, int dim) {
    Vec<T> y[max_y];
    Factors<T, Plain<T>>(job, Plain<T>(job, e, size)).values(job.l_max, y);
    write_columns(y, dim, dim, size, job.to + e * dim);
  }
};

struct Backward {
  template <class T>
  static EQUIPOT_INLINE void run(const HarmonicsJob<T>& job, int64_t e, int size, int dim) {
    Vec<T> g[max_y], to[3];
    const Plain<T> frame(job, e, size);
    read_columns(job.g + e * dim, dim, dim, size, g);
    Factors<T, Plain<T>>(job, frame).gradient(job, frame, g, to);
    write_columns(to, 3, 3, size, job.to + 3 * e);
  }
};

struct DoubleBackward {
  template <class T>
  static EQUIPOT_INLINE void run(const HarmonicsJob<T>& job, int64_t e, int size, int dim) {
    const Tangent<T> frame(job, e, size);
    const Factors<T, Tangent<T>> factors(job, frame);
    Vec<T> numbers[max_y];
    if (job.dg) {
      Dual<T> y[max_y];
      factors.values(job.l_max, y);
      for (int j = 0; j < dim; ++j) numbers[j] = y[j].slope;
      write_columns(numbers, dim, dim, size, job.dg + e * dim);
    }
    if (job.to) {
      Dual<T> to[3];
      read_columns(job.g + e * dim, dim, dim, size, numbers);
      factors.gradient(job, frame, numbers, to);
      for (int j = 0; j < 3; ++j) numbers[j] = to[j].slope;
      write_columns(numbers, 3, 3, size, job.to + 3 * e);
    }
  }
};

template <class Pass, class T>
EQUIPOT_KERNEL void run(const HarmonicsJob<T>& job, int64_t first, int64_t last) {
  const int dim = (job.l_max + 1) * (job.l_max + 1);
  for (int64_t e = first; e < last; e += lanes<T>) Pass::run(job, e, last - e < lanes<T> ? static_cast<int>(last - e) : lanes<T>, dim);
}

template <class T>
constexpr equipot::Harmonics<T> harmonics = {run<Forward, T>, run<Backward, T>, run<DoubleBackward, T>};

}  // namespace

extern const equipot::Harmonics<float> harmonics_f32;
extern const equipot::Harmonics<double> harmonics_f64;
const equipot::Harmonics<float> harmonics_f32 = harmonics<float>;
const equipot::Harmonics<double> harmonics_f64 = harmonics<double>;

}  // namespace EQUIPOT_NAMESPACE
