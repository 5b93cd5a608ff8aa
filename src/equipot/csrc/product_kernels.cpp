// The symmetric product of one chunk of atoms, a pack of channels at a time; compiled once per instruction set.
#include "product.hpp"
#include "simd.hpp"

namespace EQUIPOT_NAMESPACE {
namespace {

using equipot::ProductJob;
using equipot::ProductNode;
using equipot::ProductTerms;

// N vectors of channels.
template <class T, int N>
struct Pack {
  Vec<T> v[N];
};
template <class T, int N>
EQUIPOT_INLINE Pack<T, N> operator*(const Pack<T, N>& x, const Pack<T, N>& y) {
  Pack<T, N> z;
  EQUIPOT_UNROLL for (int i = 0; i < N; ++i) z.v[i] = x.v[i] * y.v[i];
  return z;
}
template <class T, int N>
EQUIPOT_INLINE void add(Pack<T, N>& z, const Pack<T, N>& x, const Pack<T, N>& y) {
  EQUIPOT_UNROLL for (int i = 0; i < N; ++i) z.v[i] += x.v[i] * y.v[i];
}
template <class T, int N>
EQUIPOT_INLINE void add(Pack<T, N>& z, const Pack<T, N>& x) {
  EQUIPOT_UNROLL for (int i = 0; i < N; ++i) z.v[i] += x.v[i];
}

// Everything about one atom and one pack of channels. Polynomials are sums over nodes n = parent · A_variable:
//   value   a_n = a_p A_v                        tangent  d_n = d_p A_v + a_p c_v
// and the cotangents q of d_n (of a_n in the backward) and r of a_n go the other way, from the leaves to the variables.
template <class T, int N, bool TAIL>
struct Work {
  using P = Pack<T, N>;
  const ProductJob<T>& job;
  const equipot_product& plan;
  const ProductNode* nodes;
  const int64_t k;
  const Lanes<T, TAIL> lane;
  P *value, *tangent, *q, *r, *of_row, *of_row_c, *sum_w;

  Work(const ProductJob<T>& job, int64_t k, int64_t n)
      : job(job), plan(*job.plan), nodes(plan.nodes.data()), k(k), lane(n), value(reinterpret_cast<P*>(job.scratch)), tangent(value + plan.n_nodes),
        q(tangent + plan.n_nodes), r(q + plan.n_inner), of_row(r + plan.n_inner), of_row_c(of_row + plan.rows.size()),
        sum_w(of_row_c + plan.rows.size()) {
    for (int64_t i = 0; i < plan.n_weights; ++i) sum_w[i] = P{};
  }

  EQUIPOT_INLINE P load(const T* from, int64_t row) const {
    P x;
    EQUIPOT_UNROLL for (int i = 0; i < N; ++i) x.v[i] = lane.load(from + row * job.n_channels + k + i * lanes<T>);
    return x;
  }
  EQUIPOT_INLINE void store(T* to, int64_t row, const P& x) const {
    EQUIPOT_UNROLL for (int i = 0; i < N; ++i) lane.store(to + row * job.n_channels + k + i * lanes<T>, x.v[i]);
  }
  EQUIPOT_INLINE P weight(const T* w, int64_t row) const { return load(w, plan.rows[row].weight); }

  // a_n of nodes [n_in, end).
  EQUIPOT_INLINE void values(int64_t atom, int32_t end) {
    for (int64_t i = 0; i < plan.n_in; ++i) value[i] = load(job.a, atom * plan.n_in + i);
    for (int32_t n = static_cast<int32_t>(plan.n_in); n < end; ++n) value[n] = value[nodes[n].parent] * value[nodes[n].variable];
  }
  EQUIPOT_INLINE void values_and_tangents(int64_t atom) {
    for (int64_t i = 0; i < plan.n_in; ++i) {
      value[i] = load(job.a, atom * plan.n_in + i);
      tangent[i] = job.ca ? load(job.ca, atom * plan.n_in + i) : P{};
    }
    for (int32_t n = static_cast<int32_t>(plan.n_in); n < plan.n_nodes; ++n) {
      const auto [parent, variable] = nodes[n];
      value[n] = value[parent] * value[variable];
      P d = tangent[parent] * value[variable];
      add(d, value[parent], tangent[variable]);
      tangent[n] = d;
    }
  }

  // Sum of a list's terms over x. Two sums in turn: one would wait for itself.
  EQUIPOT_INLINE P dot(const ProductTerms& terms, int32_t list, const P* x) const {
    const T* c = terms.template values<T>();
    const int32_t* index = terms.index.data();
    P even{}, odd{};
    int32_t i = terms.start[list];
    const int32_t end = terms.start[list + 1];
    for (; i + 1 < end; i += 2) {
      const Vec<T> c0 = broadcast<T>(c[i]), c1 = broadcast<T>(c[i + 1]);
      EQUIPOT_UNROLL for (int j = 0; j < N; ++j) even.v[j] += c0 * x[index[i]].v[j];
      EQUIPOT_UNROLL for (int j = 0; j < N; ++j) odd.v[j] += c1 * x[index[i + 1]].v[j];
    }
    if (i < end) {
      const Vec<T> c0 = broadcast<T>(c[i]);
      EQUIPOT_UNROLL for (int j = 0; j < N; ++j) even.v[j] += c0 * x[index[i]].v[j];
    }
    add(even, odd);
    return even;
  }

  // b = sum over rows of w · (sums over x), stored or, without b, not; gw gets g · the same sums if it is wanted.
  template <bool B, bool GW, bool SECOND>
  EQUIPOT_INLINE void polynomials(int64_t atom, const P* x) {
    for (int64_t o = 0; o < plan.n_out; ++o) {
      P b{};
      const P g = GW ? load(job.g, atom * plan.n_out + o) : P{};
      for (int32_t row = plan.row_start[o]; row < plan.row_start[o + 1]; ++row) {
        const P p = dot(plan.of_row, row, x);
        if (B) add(b, weight(job.w, row), p);
        if (GW) add(sum_w[plan.rows[row].weight], g, p);
        if (B && SECOND) add(b, weight(job.cw, row), dot(plan.of_row, row, value));
      }
      if (B) store(job.b, atom * plan.n_out + o, b);
    }
  }

  // of_row = w · g, the cotangent of each polynomial.
  EQUIPOT_INLINE void cotangents(int64_t atom, const T* w, P* to) {
    for (int64_t o = 0; o < plan.n_out; ++o) {
      const P g = load(job.g, atom * plan.n_out + o);
      for (int32_t row = plan.row_start[o]; row < plan.row_start[o + 1]; ++row) to[row] = weight(w, row) * g;
    }
  }

  // ga from of_row.
  EQUIPOT_INLINE void back(int64_t atom) {
    for (int32_t n = 0; n < plan.n_inner; ++n) q[n] = dot(plan.of_node, n, of_row);
    for (int32_t p = 0; p < plan.n_inner; ++p) {
      P up{};  // beside q[p], which may be the variable's too
      const P ap = value[p];
      for (int32_t n = plan.leaf_start[p]; n < plan.leaf_start[p + 1]; ++n) {
        const int32_t v = nodes[n].variable;
        const P qn = dot(plan.of_node, n, of_row);
        add(up, qn, value[v]);
        add(q[v], qn, ap);
      }
      add(q[p], up);
    }
    for (int32_t n = plan.n_inner - 1; n >= plan.n_in; --n) {
      const auto [p, v] = nodes[n];
      const P qn = q[n];
      add(q[p], qn, value[v]);
      add(q[v], qn, value[p]);
    }
    for (int64_t i = 0; i < plan.n_in; ++i) store(job.ga, atom * plan.n_in + i, q[i]);
  }

  // da from of_row, the cotangents of tangents, and with SECOND of_row_c, those of values.
  template <bool SECOND>
  EQUIPOT_INLINE void back_of_tangents(int64_t atom) {
    for (int32_t n = 0; n < plan.n_inner; ++n) {
      q[n] = dot(plan.of_node, n, of_row);
      r[n] = SECOND ? dot(plan.of_node, n, of_row_c) : P{};
    }
    for (int32_t p = 0; p < plan.n_inner; ++p) {
      P up_q{}, up_r{};
      const P ap = value[p], dp = tangent[p];
      for (int32_t n = plan.leaf_start[p]; n < plan.leaf_start[p + 1]; ++n) {
        const int32_t v = nodes[n].variable;
        const P qn = dot(plan.of_node, n, of_row);
        add(up_q, qn, value[v]);
        add(up_r, qn, tangent[v]);
        add(r[v], qn, dp);
        if (SECOND) {
          const P rn = dot(plan.of_node, n, of_row_c);
          add(up_r, rn, value[v]);
          add(r[v], rn, ap);
        }
      }
      add(q[p], up_q);
      add(r[p], up_r);
    }
    for (int32_t n = plan.n_inner - 1; n >= plan.n_in; --n) {
      const auto [p, v] = nodes[n];
      const P qn = q[n], rn = r[n];
      add(q[p], qn, value[v]);
      add(r[p], qn, tangent[v]);
      add(r[p], rn, value[v]);
      add(r[v], qn, tangent[p]);
      add(r[v], rn, value[p]);
    }
    for (int64_t i = 0; i < plan.n_in; ++i) store(job.ga, atom * plan.n_in + i, r[i]);
  }

  EQUIPOT_INLINE void store_weights() const {
    for (int64_t i = 0; i < plan.n_weights; ++i) store(job.gw, i, sum_w[i]);
  }
};

struct Forward {
  template <class W>
  static EQUIPOT_INLINE void atom(W& work, int64_t i) {
    work.values(i, work.plan.n_nodes);
    work.template polynomials<true, false, false>(i, work.value);
  }
};

struct Backward {
  template <class W>
  static EQUIPOT_INLINE void atom(W& work, int64_t i) {
    work.values(i, work.job.gw ? work.plan.n_nodes : work.plan.n_inner);
    if (work.job.gw) work.template polynomials<false, true, false>(i, work.value);
    if (!work.job.ga) return;
    work.cotangents(i, work.job.w, work.of_row);
    work.back(i);
  }
};

template <bool SECOND>
struct DoubleBackward {
  template <class W>
  static EQUIPOT_INLINE void atom(W& work, int64_t i) {
    const auto& job = work.job;
    work.values_and_tangents(i);
    if (job.b && job.gw) work.template polynomials<true, true, SECOND>(i, work.tangent);
    if (job.b && !job.gw) work.template polynomials<true, false, SECOND>(i, work.tangent);
    if (!job.b && job.gw) work.template polynomials<false, true, SECOND>(i, work.tangent);
    if (!job.ga) return;
    work.cotangents(i, job.w, work.of_row);
    if (SECOND) work.cotangents(i, job.cw, work.of_row_c);
    work.template back_of_tangents<SECOND>(i);
  }
};

template <class Pass, class T, int N, bool TAIL>
EQUIPOT_KERNEL void run_pack(const ProductJob<T>& job, int64_t k, int64_t n) {
  Work<T, N, TAIL> work(job, k, n);
  for (int64_t i = 0; i < job.n_atoms; ++i) Pass::atom(work, job.atoms[i]);
  if (job.gw) work.store_weights();
}

template <class Pass, class T>
void run(const ProductJob<T>& job) {
  constexpr int fitting = static_cast<int>(equipot::product_pack_bytes) / EQUIPOT_VECTOR_BYTES, wide = fitting < 4 ? fitting : 4;
  const int64_t n = job.n_channels;
  int64_t k = 0;
  for (; n - k >= wide * lanes<T>; k += wide * lanes<T>) run_pack<Pass, T, wide, false>(job, k, 0);
  for (; n - k > 0; k += lanes<T>) run_pack<Pass, T, 1, true>(job, k, n - k < lanes<T> ? n - k : lanes<T>);
}

template <class T>
void forward(const ProductJob<T>& job) { run<Forward>(job); }
template <class T>
void backward(const ProductJob<T>& job) { run<Backward>(job); }
template <class T>
void double_backward(const ProductJob<T>& job) { job.cw ? run<DoubleBackward<true>>(job) : run<DoubleBackward<false>>(job); }

}  // namespace

extern const equipot::Product<float> product_f32;
extern const equipot::Product<double> product_f64;
const equipot::Product<float> product_f32 = {forward<float>, backward<float>, double_backward<float>};
const equipot::Product<double> product_f64 = {forward<double>, backward<double>, double_backward<double>};

}  // namespace EQUIPOT_NAMESPACE
