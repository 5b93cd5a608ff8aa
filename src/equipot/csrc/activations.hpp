// SiLU and tanh of vectors, with two derivatives; included inside a translation unit of one instruction set.
#pragma once

#include "equipot_ops.h"
#include "simd.hpp"

namespace EQUIPOT_NAMESPACE {

template <class T>
struct Float;
template <>
struct Float<float> {
  typedef int32_t Integer __attribute__((vector_size(EQUIPOT_VECTOR_BYTES)));
  static constexpr float magic = 12582912.0f;  // 1.5 · 2^23: adding it rounds to an integer, which the low bits then hold
  static constexpr float most = 87.0f, ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
  static constexpr int mantissa = 23, degree = 7;
};
template <>
struct Float<double> {
  typedef int64_t Integer __attribute__((vector_size(EQUIPOT_VECTOR_BYTES)));
  static constexpr double magic = 6755399441055744.0;  // 1.5 · 2^52
  static constexpr double most = 708.0, ln2_high = 6.93147180369123816490e-01, ln2_low = 1.90821492927058770002e-10;
  static constexpr int mantissa = 52, degree = 13;
};

// e^x = 2^n e^r with |r| <= ln(2) / 2, e^r by its series; x is cut to where the result is a normal number.
template <class T>
EQUIPOT_INLINE Vec<T> exponential(Vec<T> x) {
  using F = Float<T>;
  using I = typename F::Integer;
  const Vec<T> most = broadcast<T>(F::most), magic = broadcast<T>(F::magic), one = broadcast<T>(1);
  x = x > most ? most : x;
  x = x < -most ? -most : x;
  const Vec<T> shifted = x * broadcast<T>(static_cast<T>(1.44269504088896340736)) + magic;
  const Vec<T> n = shifted - magic;
  const Vec<T> r = x - n * broadcast<T>(F::ln2_high) - n * broadcast<T>(F::ln2_low);
  Vec<T> sum = one;
  EQUIPOT_UNROLL for (int k = F::degree; k > 0; --k) sum = one + sum * r * broadcast<T>(static_cast<T>(1.0 / k));
  const I power = (((I)shifted - (I)magic) << F::mantissa) + (I)one;
  return sum * (Vec<T>)power;
}

// f, f' and f'' at once: what is not used is not computed.
template <class T>
struct Activation {
  Vec<T> value, first, second;
};

template <class T>
EQUIPOT_INLINE Activation<T> silu(Vec<T> x) {
  const Vec<T> one = broadcast<T>(1), s = one / (one + exponential<T>(-x)), rest = one - s;
  return {x * s, s * (one + x * rest), s * rest * (broadcast<T>(2) + x * (rest - s))};
}

template <class T>
EQUIPOT_INLINE Activation<T> tanh(Vec<T> x) {
  const Vec<T> one = broadcast<T>(1), two = broadcast<T>(2), size = x < Vec<T>{} ? -x : x;
  const Vec<T> t = one - two / (one + exponential<T>(size + size)), value = x < Vec<T>{} ? -t : t;
  return {value, one - t * t, -two * value * (one - t * t)};
}

template <class T>
EQUIPOT_INLINE Activation<T> activation(int64_t kind, Vec<T> x) { return kind == EQUIPOT_SILU ? silu<T>(x) : tanh<T>(x); }

}  // namespace EQUIPOT_NAMESPACE
