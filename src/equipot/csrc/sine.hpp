// Sine and cosine of vectors; included inside a translation unit of one instruction set.
#pragma once

#include "activations.hpp"

namespace EQUIPOT_NAMESPACE {

// pi / 2 in parts, the first two with so few bits that a multiple n < 2^13 of them is exact; degrees of the series on |x| <= pi / 4.
template <class T>
struct HalfPi;
template <>
struct HalfPi<float> {
  static constexpr float parts[3] = {1.5703125f, 4.837512969970703125e-4f, 7.549789948768648e-8f};
  static constexpr int degree = 10;
};
template <>
struct HalfPi<double> {
  static constexpr double parts[3] = {1.57079625129699707031, 7.54978941586159635335e-8, 5.39030285815811905290e-15};
  static constexpr int degree = 18;
};

template <class T>
struct Waves {
  Vec<T> sine, cosine;
};

// 1 - x^2/(n (n + 1)) (1 - ...): the series of sin(x) / x for first = 2 and of cos(x) for first = 1, in t = x^2.
template <class T, int FIRST>
EQUIPOT_INLINE Vec<T> alternating_series(Vec<T> t) {
  const Vec<T> one = broadcast<T>(1);
  Vec<T> sum = one;
  EQUIPOT_UNROLL for (int n = HalfPi<T>::degree - 2 + FIRST; n >= FIRST; n -= 2)
    sum = one - sum * t * broadcast<T>(static_cast<T>(1.0 / (n * (n + 1))));
  return sum;
}

template <class T>
EQUIPOT_INLINE Waves<T> waves(Vec<T> x) {
  using F = Float<T>;
  using I = typename F::Integer;
  const Vec<T> magic = broadcast<T>(F::magic), shifted = x * broadcast<T>(static_cast<T>(0.63661977236758134308)) + magic, n = shifted - magic;
  Vec<T> y = x;
  EQUIPOT_UNROLL for (int i = 0; i < 3; ++i) y = y - n * broadcast<T>(HalfPi<T>::parts[i]);
  const Vec<T> t = y * y, sine = y * alternating_series<T, 2>(t), cosine = alternating_series<T, 1>(t);
  const I quarter = (I)shifted - (I)magic, odd = (quarter & 1) != 0;
  const Vec<T> s = odd ? cosine : sine, c = odd ? sine : cosine;
  return {(quarter & 2) != 0 ? -s : s, ((quarter + 1) & 2) != 0 ? -c : c};
}

}  // namespace EQUIPOT_NAMESPACE
