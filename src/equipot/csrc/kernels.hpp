// What the dispatcher calls: the kernels of one instruction set, each on a range of receivers.
#pragma once

#include "plan.hpp"

namespace equipot {

// One call's arrays; names as in equipot_ops.h. `out` is A forward and dg in the double backward; gy and gw are dy and dw there.
template <class T>
struct Job {
  const equipot_plan* plan;
  const equipot_edges* edges;
  const T *a, *b, *c, *g, *h, *y, *w;
  T *out, *gh, *gy, *gw;
  T* work;       // [n_edges][h_dim]: each edge's contribution to gh of its sender
  T* gw_second;  // [n_pairs][w_dim]: the contribution to gw of each pair's second edge
};

// Kernels of one type. The first three do the edges of receivers first <= i < last; `gather` sums `work` to gh of senders first <= j < last, `fold`
// adds `gw_second` to gw of pairs first <= p < last.
template <class T>
struct Convolution {
  using Kernel = void(const Job<T>&, int64_t first, int64_t last);
  Kernel *forward, *backward, *double_backward, *gather, *fold;
};

template <class T>
struct Linear;
template <class T>
struct Product;
template <class T>
struct Gate;
template <class T>
struct Harmonics;
template <class T>
struct Bessel;
template <class T>
struct Perceptron;

struct Kernels {
  const char* name;
  Convolution<float> f32;
  Convolution<double> f64;
  const Linear<float>* linear_f32;
  const Linear<double>* linear_f64;
  const Product<float>* product_f32;
  const Product<double>* product_f64;
  const Gate<float>* gate_f32;
  const Gate<double>* gate_f64;
  const Harmonics<float>* harmonics_f32;
  const Harmonics<double>* harmonics_f64;
  const Bessel<float>* bessel_f32;
  const Bessel<double>* bessel_f64;
  const Perceptron<float>* perceptron_f32;
  const Perceptron<double>* perceptron_f64;

  template <class T>
  const Convolution<T>& convolution() const;
  template <class T>
  const Linear<T>* linear() const;
  template <class T>
  const Product<T>* product() const;
  template <class T>
  const Gate<T>* gate() const;
  template <class T>
  const Harmonics<T>* harmonics() const;
  template <class T>
  const Bessel<T>* bessel() const;
  template <class T>
  const Perceptron<T>* perceptron() const;
};
template <>
inline const Convolution<float>& Kernels::convolution<float>() const { return f32; }
template <>
inline const Convolution<double>& Kernels::convolution<double>() const { return f64; }
template <>
inline const Linear<float>* Kernels::linear<float>() const { return linear_f32; }
template <>
inline const Linear<double>* Kernels::linear<double>() const { return linear_f64; }
template <>
inline const Product<float>* Kernels::product<float>() const { return product_f32; }
template <>
inline const Product<double>* Kernels::product<double>() const { return product_f64; }
template <>
inline const Gate<float>* Kernels::gate<float>() const { return gate_f32; }
template <>
inline const Gate<double>* Kernels::gate<double>() const { return gate_f64; }
template <>
inline const Harmonics<float>* Kernels::harmonics<float>() const { return harmonics_f32; }
template <>
inline const Harmonics<double>* Kernels::harmonics<double>() const { return harmonics_f64; }
template <>
inline const Bessel<float>* Kernels::bessel<float>() const { return bessel_f32; }
template <>
inline const Bessel<double>* Kernels::bessel<double>() const { return bessel_f64; }
template <>
inline const Perceptron<float>* Kernels::perceptron<float>() const { return perceptron_f32; }
template <>
inline const Perceptron<double>* Kernels::perceptron<double>() const { return perceptron_f64; }

}  // namespace equipot
