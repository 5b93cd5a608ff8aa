// The radial functions, vectors of pairs; compiled once per instruction set.
#include "bessel.hpp"
#include "columns.hpp"
#include "sine.hpp"

namespace EQUIPOT_NAMESPACE {
namespace {

using equipot::bessel_lanes;
using equipot::BesselJob;

constexpr int chunk = 16;  // functions at once

// A function of the distance, with its first ORDER derivatives.
template <class T>
struct Jet {
  Vec<T> value, first, second;
};

template <class T>
EQUIPOT_INLINE Vec<T> power(Vec<T> x, int64_t p) {
  Vec<T> found = broadcast<T>(1);
  for (int64_t i = 0; i < p; ++i) found *= x;
  return found;
}

template <class T>
EQUIPOT_INLINE Jet<T> envelope(const equipot_bessel& basis, Vec<T> r) {
  const Vec<T> cutoff = broadcast<T>(static_cast<T>(basis.cutoff)), one = broadcast<T>(1);
  if (basis.envelope == EQUIPOT_COSINE) {
    const Vec<T> w = broadcast<T>(static_cast<T>(3.14159265358979323846 / basis.cutoff)), half = broadcast<T>(static_cast<T>(0.5));
    const Waves<T> f = waves<T>(r * w);
    return {half * (one + f.cosine), -half * w * f.sine, -half * w * w * f.cosine};
  }
  const int64_t p = basis.p;
  const auto number = [](double c) { return broadcast<T>(static_cast<T>(c)); };
  const Vec<T> x = r / cutoff, rest = one - x, low = power<T>(x, p < 2 ? 0 : p - 2), before = p < 2 ? one : low * x;
  const double b = 0.5 * p * (p + 1.0) * (p + 2.0);
  return {one - before * x * (number((p + 1) * (p + 2) / 2.0) - x * (number(p * (p + 2.0)) - number(p * (p + 1) / 2.0) * x)),
          number(-b / basis.cutoff) * before * rest * rest,
          number(-b / basis.cutoff / basis.cutoff) * rest * (number(p - 1.0) * low * rest - number(2) * before)};
}

// Pairs from i on: r, 1 / r and the envelope times the factor, which is 0 with its derivatives from the cutoff on. Not a number stays that.
template <class T>
struct Distances {
  Vec<T> r, inverse;
  T least;  // of r
  Jet<T> u;

  EQUIPOT_INLINE Distances(const BesselJob<T>& job, int64_t i, int n) {
    const Vec<T> zero{}, factor = broadcast<T>(static_cast<T>(job.basis->factor));
    const Vec<T> cutoff = broadcast<T>(static_cast<T>(job.basis->cutoff));
    read_columns(job.r + i, 1, 1, n, &r);
    for (int j = n; j < lanes<T>; ++j) r[j] = cutoff[0];
    const auto outside = r >= cutoff;
    r = outside ? cutoff : r;
    least = cutoff[0];
    for (int j = 0; j < n; ++j) least = r[j] < least ? r[j] : least;
    inverse = broadcast<T>(1) / r;  // not used at 0
    const Jet<T> found = envelope<T>(*job.basis, r);
    u = {outside ? zero : found.value * factor, outside ? zero : found.first * factor, outside ? zero : found.second * factor};
  }
};

// sin(w r) / r with ORDER derivatives: near 0 by the series of sin(x) / x = sum_n (-t)^n / (2n + 1)!, t = x^2.
template <class T, int ORDER>
EQUIPOT_INLINE Jet<T> ratio(const Distances<T>& d, Vec<T> w, const Waves<T>& f) {
  const Vec<T> x = d.r * w, one = broadcast<T>(1), two = broadcast<T>(2);
  Jet<T> found{};
  found.value = f.sine * d.inverse;
  if (ORDER > 0) found.first = (w * f.cosine - found.value) * d.inverse;
  if (ORDER > 1) found.second = -(w * w * f.sine + two * found.first) * d.inverse;
  if (d.least * (w[0] < 0 ? -w[0] : w[0]) >= 1) return found;
  const auto near = (x < one) & (x > -one);
  const Vec<T> t = x * x, zero{};
  Vec<T> value = zero, first = zero, second = zero;  // sum_n c_n t^n, its derivative, half the derivative of that
  double c[HalfPi<T>::degree / 2 + 2] = {1};
  constexpr int last = HalfPi<T>::degree / 2 + 1;
  EQUIPOT_UNROLL for (int n = 1; n <= last; ++n) c[n] = -c[n - 1] / (2 * n * (2 * n + 1));
  EQUIPOT_UNROLL for (int n = last; n >= 0; --n) {
    if (ORDER > 1) second = second * t + first;
    if (ORDER > 0) first = first * t + value;
    value = value * t + broadcast<T>(static_cast<T>(c[n]));
  }
  found.value = near ? w * value : found.value;
  if (ORDER > 0) found.first = near ? two * w * w * x * first : found.first;
  if (ORDER > 1) found.second = near ? two * w * w * w * (first + two * two * t * second) : found.second;
  return found;
}

template <class T>
EQUIPOT_INLINE void add(T* sums, Vec<T> x) {
  const Lanes<T, false> lane(0);
  lane.store(sums, lane.load(sums) + x);
}

struct Forward {
  template <class T>
  static EQUIPOT_INLINE void run(const BesselJob<T>& job, int64_t i, int n) {
    const Distances<T> d(job, i, n);
    const int64_t n_basis = job.basis->n_basis;
    Vec<T> e[chunk];
    for (int64_t k = 0; k < n_basis; k += chunk) {
      const int size = n_basis - k < chunk ? static_cast<int>(n_basis - k) : chunk;
      for (int j = 0; j < size; ++j) {
        const Vec<T> w = broadcast<T>(job.w[k + j]);
        e[j] = ratio<T, 0>(d, w, waves<T>(d.r * w)).value * d.u.value;
      }
      write_columns(e, n_basis, size, n, job.to + i * n_basis + k);
    }
  }
};

struct Backward {
  template <class T>
  static EQUIPOT_INLINE void run(const BesselJob<T>& job, int64_t i, int n) {
    const Distances<T> d(job, i, n);
    const int64_t n_basis = job.basis->n_basis;
    Vec<T> g[chunk], gr{};
    for (int64_t k = 0; k < n_basis; k += chunk) {
      const int size = n_basis - k < chunk ? static_cast<int>(n_basis - k) : chunk;
      read_columns(job.g + i * n_basis + k, n_basis, size, n, g);
      for (int j = 0; j < size; ++j) {
        const Vec<T> w = broadcast<T>(job.w[k + j]);
        const Waves<T> wave = waves<T>(d.r * w);
        const Jet<T> f = ratio<T, 1>(d, w, wave);
        gr += g[j] * (f.first * d.u.value + f.value * d.u.first);
        if (job.sums) add(job.sums + (k + j) * bessel_lanes, g[j] * d.u.value * wave.cosine);
      }
    }
    if (job.gr) write_columns(&gr, 1, 1, n, job.gr + i);
  }
};

struct DoubleBackward {
  template <class T>
  static EQUIPOT_INLINE void run(const BesselJob<T>& job, int64_t i, int n) {
    const Distances<T> d(job, i, n);
    const int64_t n_basis = job.basis->n_basis;
    const Vec<T> two = broadcast<T>(2);
    Vec<T> g[chunk], dg[chunk], a{}, dr{};
    if (job.a) read_columns(job.a + i, 1, 1, n, &a);
    for (int64_t k = 0; k < n_basis; k += chunk) {
      const int size = n_basis - k < chunk ? static_cast<int>(n_basis - k) : chunk;
      read_columns(job.g + i * n_basis + k, n_basis, size, n, g);
      for (int j = 0; j < size; ++j) {
        const Vec<T> w = broadcast<T>(job.w[k + j]), b = job.b ? broadcast<T>(job.b[k + j]) : Vec<T>{};
        const Waves<T> wave = waves<T>(d.r * w);
        const Jet<T> f = ratio<T, 2>(d, w, wave);
        const Vec<T> slope = f.first * d.u.value + f.value * d.u.first;
        const Vec<T> mixed = d.u.first * wave.cosine - d.u.value * w * wave.sine;  // d2e / dr dw
        dg[j] = a * slope + b * d.u.value * wave.cosine;
        dr += g[j] * (a * (f.second * d.u.value + two * f.first * d.u.first + f.value * d.u.second) + b * mixed);
        if (job.sums) add(job.sums + (k + j) * bessel_lanes, g[j] * (a * mixed - b * d.u.value * d.r * wave.sine));
      }
      if (job.to) write_columns(dg, n_basis, size, n, job.to + i * n_basis + k);
    }
    if (job.gr) write_columns(&dr, 1, 1, n, job.gr + i);
  }
};

template <class Pass, class T>
EQUIPOT_KERNEL void run(const BesselJob<T>& job, int64_t first, int64_t last) {
  for (int64_t i = first; i < last; i += lanes<T>) Pass::run(job, i, last - i < lanes<T> ? static_cast<int>(last - i) : lanes<T>);
}

template <class T>
constexpr equipot::Bessel<T> bessel = {run<Forward, T>, run<Backward, T>, run<DoubleBackward, T>};

}  // namespace

extern const equipot::Bessel<float> bessel_f32;
extern const equipot::Bessel<double> bessel_f64;
const equipot::Bessel<float> bessel_f32 = bessel<float>;
const equipot::Bessel<double> bessel_f64 = bessel<double>;

}  // namespace EQUIPOT_NAMESPACE
