// Vectors of one instruction set, by the compiler's vector types; included inside namespace EQUIPOT_NAMESPACE.
// Nothing here may be a template of the standard library that is not inlined: the linker would keep one instruction set's copy for all.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define EQUIPOT_VECTOR_BYTES 64
#elif defined(__AVX2__)
#define EQUIPOT_VECTOR_BYTES 32
#else
#define EQUIPOT_VECTOR_BYTES 16
#endif
#define EQUIPOT_INLINE inline __attribute__((always_inline))
// Before a loop over a local array: only unrolled is the array registers.
#if defined(__clang__)
#define EQUIPOT_UNROLL _Pragma("clang loop unroll(full)")
#else
#define EQUIPOT_UNROLL _Pragma("GCC unroll 32")
#endif
// Makes the compiler forget how p was computed: a row's address is then one addition to the row before, not one of many kept on the stack.
#define EQUIPOT_FORGET(p) asm("" : "+r"(p))
// A kernel's callers must not reason about its body: GCC 12 takes one whose addresses its loop optimiser rewrote for a function without effect, and
// drops the call.
#if defined(__has_attribute)
#if __has_attribute(noipa)
#define EQUIPOT_KERNEL __attribute__((noipa))
#endif
#endif
#ifndef EQUIPOT_KERNEL
#define EQUIPOT_KERNEL __attribute__((noinline))
#endif

namespace EQUIPOT_NAMESPACE {

template <class T>
struct Simd;
template <>
struct Simd<float> {
  typedef float V __attribute__((vector_size(EQUIPOT_VECTOR_BYTES)));
  typedef float U __attribute__((vector_size(EQUIPOT_VECTOR_BYTES), aligned(4), may_alias));
};
template <>
struct Simd<double> {
  typedef double V __attribute__((vector_size(EQUIPOT_VECTOR_BYTES)));
  typedef double U __attribute__((vector_size(EQUIPOT_VECTOR_BYTES), aligned(8), may_alias));
};
template <class T>
using Vec = typename Simd<T>::V;
template <class T>
constexpr int lanes = EQUIPOT_VECTOR_BYTES / static_cast<int>(sizeof(T));

template <class T>
EQUIPOT_INLINE Vec<T> broadcast(T x) { return x - Vec<T>{}; }

// Loads and stores of whole vectors (TAIL = false) or of the first n lanes (TAIL = true; the others read as 0).
template <class T, bool TAIL>
struct Lanes;

template <class T>
struct Lanes<T, false> {
  EQUIPOT_INLINE explicit Lanes(int64_t) {}
  EQUIPOT_INLINE Vec<T> load(const T* p) const { return *reinterpret_cast<const typename Simd<T>::U*>(p); }
  EQUIPOT_INLINE void store(T* p, Vec<T> x) const { *reinterpret_cast<typename Simd<T>::U*>(p) = x; }
};

#if defined(__AVX512F__)
template <>
struct Lanes<float, true> {
  __mmask16 mask;
  EQUIPOT_INLINE explicit Lanes(int64_t n) : mask(static_cast<__mmask16>((1u << n) - 1)) {}
  EQUIPOT_INLINE Vec<float> load(const float* p) const { return _mm512_maskz_loadu_ps(mask, p); }
  EQUIPOT_INLINE void store(float* p, Vec<float> x) const { _mm512_mask_storeu_ps(p, mask, x); }
};
template <>
struct Lanes<double, true> {
  __mmask8 mask;
  EQUIPOT_INLINE explicit Lanes(int64_t n) : mask(static_cast<__mmask8>((1u << n) - 1)) {}
  EQUIPOT_INLINE Vec<double> load(const double* p) const { return _mm512_maskz_loadu_pd(mask, p); }
  EQUIPOT_INLINE void store(double* p, Vec<double> x) const { _mm512_mask_storeu_pd(p, mask, x); }
};
#elif defined(__AVX2__)
template <>
struct Lanes<float, true> {
  __m256i mask;
  EQUIPOT_INLINE explicit Lanes(int64_t n) {
    mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  EQUIPOT_INLINE Vec<float> load(const float* p) const { return _mm256_maskload_ps(p, mask); }
  EQUIPOT_INLINE void store(float* p, Vec<float> x) const { _mm256_maskstore_ps(p, mask, x); }
};
template <>
struct Lanes<double, true> {
  __m256i mask;
  EQUIPOT_INLINE explicit Lanes(int64_t n) { mask = _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3)); }
  EQUIPOT_INLINE Vec<double> load(const double* p) const { return _mm256_maskload_pd(p, mask); }
  EQUIPOT_INLINE void store(double* p, Vec<double> x) const { _mm256_maskstore_pd(p, mask, x); }
};
#else
template <class T>
struct Lanes<T, true> {
  int64_t n;
  EQUIPOT_INLINE explicit Lanes(int64_t n) : n(n) {}
  EQUIPOT_INLINE Vec<T> load(const T* p) const {
    if (n == lanes<T>) return *reinterpret_cast<const typename Simd<T>::U*>(p);
    Vec<T> x{};
    for (int64_t i = 0; i < n; ++i) x[i] = p[i];
    return x;
  }
  EQUIPOT_INLINE void store(T* p, Vec<T> x) const {
    if (n == lanes<T>) {
      *reinterpret_cast<typename Simd<T>::U*>(p) = x;
      return;
    }
    for (int64_t i = 0; i < n; ++i) p[i] = x[i];
  }
};
#endif

// The sum of the lanes.
template <class T>
EQUIPOT_INLINE T sum(Vec<T> x) {
  T part[lanes<T>];
  std::memcpy(part, &x, sizeof x);
  for (int width = lanes<T> / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) part[i] += part[i + width];
  return part[0];
}
#if defined(__AVX512F__)
template <>
EQUIPOT_INLINE float sum<float>(Vec<float> x) { return _mm512_reduce_add_ps(x); }
template <>
EQUIPOT_INLINE double sum<double>(Vec<double> x) { return _mm512_reduce_add_pd(x); }
#elif defined(__AVX2__)
template <>
EQUIPOT_INLINE float sum<float>(Vec<float> x) {
  __m128 y = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  y = _mm_add_ps(y, _mm_movehl_ps(y, y));
  return _mm_cvtss_f32(_mm_add_ss(y, _mm_movehdup_ps(y)));
}
#endif

}  // namespace EQUIPOT_NAMESPACE
