/* equipot_ops: the native operations of equipot, as one C interface without any dependency.
 *
 * This header is the whole contract. Every function is pure (inputs are never written), keeps no pointer after it returns, and is safe to call
 * from several threads at once. The caller owns every array. Results do not depend on the number of threads, bit for bit.
 *
 * Conventions
 *   Arrays are dense and row-major, without padding; their shapes stand in brackets, [rows][columns]. Every output is overwritten in full.
 *   Suffix _f32 is IEEE single, _f64 double precision: all real arrays of one call are of that type. No alignment beyond the type's is needed.
 *   A feature row of one atom is blocks (2l+1, K) one after another, K channels fastest.
 *   Every function that can fail returns a status: EQUIPOT_OK or a negative code, in which case outputs are undefined. No function exits,
 *   prints or throws.
 */
#ifndef EQUIPOT_OPS_H
#define EQUIPOT_OPS_H

#include <stdint.h>

#if defined(__GNUC__)
#define EQUIPOT_API __attribute__((visibility("default")))
#else
#define EQUIPOT_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Raised whenever a signature or a meaning below changes; the loader compares it with the number it was written for. */
#define EQUIPOT_ABI_VERSION 6
#define EQUIPOT_MAX_L 8 /* largest degree of h, Y and A */

enum {
  EQUIPOT_OK = 0,
  EQUIPOT_BAD_ARGUMENT = -1,     /* a null pointer or a negative size */
  EQUIPOT_BAD_PATH = -2,         /* a degree out of range, no such coupling, or a block outside its row */
  EQUIPOT_BAD_INDEX = -3,        /* an atom, edge or element index out of range, or row starts that are not ascending from 0 to the end */
  EQUIPOT_OUT_OF_MEMORY = -4,
  EQUIPOT_NOT_SUPPORTED = -5     /* an instruction set that this machine or build lacks */
};

EQUIPOT_API int equipot_abi_version(void);
/* English, static, never null. */
EQUIPOT_API const char* equipot_status_message(int status);

/* ---- Instruction set and threads -------------------------------------------------------------------------------------------------------- */

/* The instruction set in use: "avx512", "avx2" or "baseline". The best one of this machine, unless equipot_set_instruction_set chose another,
 * for all calls that start later. */
EQUIPOT_API const char* equipot_instruction_set(void);
EQUIPOT_API int equipot_set_instruction_set(const char* name);

/* The library contains no threading runtime. It borrows the OpenMP runtime that the process already has: `gomp_parallel` is the address of that
 * runtime's GOMP_parallel(void (*body)(void*), void* data, unsigned n_threads, unsigned flags), which libgomp, libiomp5 and libomp export.
 * Null (the initial state): every call runs on the calling thread, whatever n_threads says. */
EQUIPOT_API void equipot_set_parallel(void* gomp_parallel);

/* ---- Edge convolution ------------------------------------------------------------------------------------------------------------------- */

/* One coupling h(l1) x Y(l2) -> A(l3), channel by channel.
 * h: components m1 of channel k at row[h_start + m1 * n_channels + k].
 * w: row[w_start + k].
 * A: components m3 of channel k at row[out_start + m3 * out_stride + out_channel + k].
 * Paths must not overlap in w, nor in A; they may share blocks of h. */
typedef struct {
  int64_t l1, l2, l3;
  int64_t n_channels;
  int64_t h_start;
  int64_t w_start;
  int64_t out_start, out_stride, out_channel;
} equipot_path;

typedef struct equipot_plan equipot_plan; /* immutable; any number of threads may use it */

/* Checks and copies `paths`; h_dim, w_dim, out_dim are the row lengths; rows of Y have (l_max + 1)^2 components, (l, m) at l*l + l + m.
 * On success *plan is the caller's, to be given to equipot_plan_destroy. */
EQUIPOT_API int equipot_plan_create(const equipot_path* paths, int64_t n_paths, int64_t l_max, int64_t h_dim, int64_t w_dim, int64_t out_dim,
                                    equipot_plan** plan);
EQUIPOT_API void equipot_plan_destroy(equipot_plan* plan); /* null is allowed */

/* The graph. Edge e goes from sender[e] to the atom i with receiver_start[i] <= e < receiver_start[i + 1]: edges are sorted by receiver.
 * by_sender lists all edges, those of sender j at by_sender[sender_start[j]] ... by_sender[sender_start[j + 1] - 1], and gives the order in which
 * their contributions to one atom are added.
 * Rows of w and its gradients: with `pair` null, edge e has row e. Otherwise the two directions of a pair of atoms share one: edge e has row pair[e],
 * and the edges of row p are pair_edges[2 p] and pair_edges[2 p + 1], which are the same where a pair has one edge only. */
typedef struct {
  int64_t n_atoms, n_edges, n_pairs;
  const int64_t* sender;         /* [n_edges] */
  const int64_t* receiver_start; /* [n_atoms + 1] */
  const int64_t* by_sender;      /* [n_edges] */
  const int64_t* sender_start;   /* [n_atoms + 1] */
  const int64_t* pair;           /* [n_edges] or null */
  const int64_t* pair_edges;     /* [n_pairs][2] or null, with pair */
} equipot_edges;

/* Forward
 *   A[i, p m3 k] = sum_{e -> i} w[e, p k] sum_{m1 m2} C_p[m1, m2, m3] h[sender(e), m1 k] Y[e, m2]
 * with C = sqrt(2 l3 + 1) * w3j in the real basis of equipot.math.coupling. Components of A that no path reaches are 0.
 *   h [n_atoms][h_dim], y [n_edges][(l_max + 1)^2], w [n_edges or n_pairs][w_dim], out [n_atoms][out_dim].
 * n_threads <= 1 runs on the calling thread; small graphs do so always. */
EQUIPOT_API int equipot_convolution_f32(const equipot_plan* plan, const equipot_edges* edges, int n_threads, const float* h, const float* y,
                                        const float* w, float* out);
EQUIPOT_API int equipot_convolution_f64(const equipot_plan* plan, const equipot_edges* edges, int n_threads, const double* h, const double* y,
                                        const double* w, double* out);

/* Backward: the gradients of <g, A(h, y, w)> with respect to h, y and w, each of its argument's shape. An output may be null: it is not computed.
 * Gradients of channels and components that no path uses are 0.
 *   g [n_atoms][out_dim].
 *   work: scratch of n_edges * h_dim reals if gh is not null, and n_pairs * w_dim more if gw is not null and edges->pair is not. */
EQUIPOT_API int equipot_convolution_backward_f32(const equipot_plan* plan, const equipot_edges* edges, int n_threads, const float* g,
                                                 const float* h, const float* y, const float* w, float* gh, float* gy, float* gw, float* work);
EQUIPOT_API int equipot_convolution_backward_f64(const equipot_plan* plan, const equipot_edges* edges, int n_threads, const double* g,
                                                 const double* h, const double* y, const double* w, double* gh, double* gy, double* gw,
                                                 double* work);

/* Double backward: with cotangents a, b, c of the outputs gh, gy, gw of the backward, the gradients of
 *   S = <a, gh> + <b, gy> + <c, gw> = <g, A(a, y, w) + A(h, b, w) + A(h, y, c)>
 * with respect to g, h, y and w. A cotangent may be null: it is zero. An output may be null: it is not computed.
 *   a [n_atoms][h_dim], b [n_edges][(l_max + 1)^2], c as w; dg, dh, dy, dw of the shapes of g, h, y, w.
 *   work: as in the backward, for dh and dw. */
EQUIPOT_API int equipot_convolution_double_backward_f32(const equipot_plan* plan, const equipot_edges* edges, int n_threads, const float* a,
                                                        const float* b, const float* c, const float* g, const float* h, const float* y,
                                                        const float* w, float* dg, float* dh, float* dy, float* dw, float* work);
EQUIPOT_API int equipot_convolution_double_backward_f64(const equipot_plan* plan, const equipot_edges* edges, int n_threads, const double* a,
                                                        const double* b, const double* c, const double* g, const double* h, const double* y,
                                                        const double* w, double* dg, double* dh, double* dy, double* dw, double* work);

/* ---- Linear maps ------------------------------------------------------------------------------------------------------------------------ */

/* Channel mixing y[i, m o] = sum_k W[z(i), k o] x[i, m k] in every block of equal degree and parity, W one matrix per element z and block.
 * x: components m < dim of channel k at row[x_start + m * k_in + k]. y: those of channel o at row[y_start + m * k_out + o].
 * Blocks are ascending in x and in y and do not overlap; what no block reaches is 0 in y (and in gx).
 * Weights of one element: the matrices [k_in][k_out] of the blocks one after another, w_dim = sum of k_in * k_out numbers. */
typedef struct {
  int64_t dim, k_in, k_out;
  int64_t x_start, y_start;
} equipot_linear_block;

typedef struct {
  const equipot_linear_block* blocks; /* [n_blocks] */
  int64_t n_blocks;
  int64_t x_dim, y_dim; /* lengths of the rows */
} equipot_linear_map;

/* The operation L(x, w) is linear in both arguments. With <g, L(x, w)>:
 *   equipot_linear             y  = L(x, w)
 *   equipot_linear_transposed  gx[i, m k] = sum_o W[z(i), k o] g[i, m o]
 *   equipot_linear_weights     gw[z, k o] = sum_{i of element z} sum_m x[i, m k] g[i, m o], 0 for elements without atoms
 * and every derivative of each of them is one of the three.
 *   x, gx [n_atoms][x_dim], y, g [n_atoms][y_dim], w, gw [n_elements][w_dim], species [n_atoms] or null: n_elements is 1 and all atoms have its
 *   weights. EQUIPOT_BAD_INDEX for a species outside 0 ... n_elements - 1. Sums over atoms are taken in an order that only species fix. */
EQUIPOT_API int equipot_linear_f32(const equipot_linear_map* map, int64_t n_atoms, int64_t n_elements, const int64_t* species, int n_threads,
                                   const float* x, const float* w, float* y);
EQUIPOT_API int equipot_linear_transposed_f32(const equipot_linear_map* map, int64_t n_atoms, int64_t n_elements, const int64_t* species, int n_threads,
                                              const float* g, const float* w, float* gx);
EQUIPOT_API int equipot_linear_weights_f32(const equipot_linear_map* map, int64_t n_atoms, int64_t n_elements, const int64_t* species, int n_threads,
                                           const float* x, const float* g, float* gw);
EQUIPOT_API int equipot_linear_f64(const equipot_linear_map* map, int64_t n_atoms, int64_t n_elements, const int64_t* species, int n_threads,
                                   const double* x, const double* w, double* y);
EQUIPOT_API int equipot_linear_transposed_f64(const equipot_linear_map* map, int64_t n_atoms, int64_t n_elements, const int64_t* species, int n_threads,
                                              const double* g, const double* w, double* gx);
EQUIPOT_API int equipot_linear_weights_f64(const equipot_linear_map* map, int64_t n_atoms, int64_t n_elements, const int64_t* species, int n_threads,
                                           const double* x, const double* g, double* gw);

/* ---- Symmetric product ------------------------------------------------------------------------------------------------------------------ */

#define EQUIPOT_MAX_CORRELATION 4

/* One term of a coupling: B[i, out k] += W[z(i), weight k] * value * prod_{f < order} A[i, factor[f] k], channel by channel. */
typedef struct {
  int64_t weight, out;
  int64_t order;                           /* 1 ... EQUIPOT_MAX_CORRELATION */
  int64_t factor[EQUIPOT_MAX_CORRELATION]; /* components of A, in any order; those beyond `order` are ignored */
  double value;
} equipot_product_entry;

typedef struct equipot_product equipot_product; /* immutable; any number of threads may use it */

/* Checks and copies the terms; n_in, n_out, n_weights bound their components and weights. Equal terms are added.
 * On success *plan is the caller's, to be given to equipot_product_destroy. EQUIPOT_BAD_PATH for a term out of these bounds. */
EQUIPOT_API int equipot_product_create(const equipot_product_entry* entries, int64_t n_entries, int64_t n_in, int64_t n_out, int64_t n_weights,
                                       equipot_product** plan);
EQUIPOT_API void equipot_product_destroy(equipot_product* plan); /* null is allowed */

/* Forward b = B(a, w); backward, the gradients ga and gw of <g, B(a, w)>; and double backward: with cotangents ca, cw of ga, gw, the gradients of
 *   S = <ca, ga> + <cw, gw> = <g, D_a B(a, w)[ca] + B(a, cw)>
 * with respect to g, a and w. A cotangent may be null: it is zero. An output but b may be null: it is not computed.
 *   a, ca, ga, da [n_atoms][n_in][n_channels], b, g, dg [n_atoms][n_out][n_channels], w, cw, gw, dw [n_elements][n_weights][n_channels];
 *   species [n_atoms] or null: n_elements is 1 and all atoms have its weights. Gradients of elements without atoms are 0.
 * Sums over atoms are taken in an order that only species and null outputs fix. Each thread keeps the scratch of one pack of channels. */
EQUIPOT_API int equipot_product_f32(const equipot_product* plan, int64_t n_atoms, int64_t n_elements, const int64_t* species,
                                    int64_t n_channels, int n_threads, const float* a, const float* w, float* b);
EQUIPOT_API int equipot_product_backward_f32(const equipot_product* plan, int64_t n_atoms, int64_t n_elements, const int64_t* species,
                                             int64_t n_channels, int n_threads, const float* g, const float* a, const float* w,
                                             float* ga, float* gw);
EQUIPOT_API int equipot_product_double_backward_f32(const equipot_product* plan, int64_t n_atoms, int64_t n_elements, const int64_t* species,
                                                    int64_t n_channels, int n_threads, const float* ca, const float* cw, const float* g,
                                                    const float* a, const float* w, float* dg, float* da, float* dw);
EQUIPOT_API int equipot_product_f64(const equipot_product* plan, int64_t n_atoms, int64_t n_elements, const int64_t* species,
                                    int64_t n_channels, int n_threads, const double* a, const double* w, double* b);
EQUIPOT_API int equipot_product_backward_f64(const equipot_product* plan, int64_t n_atoms, int64_t n_elements, const int64_t* species,
                                             int64_t n_channels, int n_threads, const double* g, const double* a, const double* w,
                                             double* ga, double* gw);
EQUIPOT_API int equipot_product_double_backward_f64(const equipot_product* plan, int64_t n_atoms, int64_t n_elements, const int64_t* species,
                                                    int64_t n_channels, int n_threads, const double* ca, const double* cw, const double* g,
                                                    const double* a, const double* w, double* dg, double* da, double* dw);

/* ---- Gate ------------------------------------------------------------------------------------------------------------------------------- */

enum { EQUIPOT_SILU = 0, EQUIPOT_TANH = 1 };

/* With gates c_k = factor * activation(x[gate_start + k]) of channels k < n_channels:
 *   dim > 0: y[y_start + m * n_channels + k] = c_k x[x_start + m * n_channels + k] for components m < dim;
 *   dim = 0: y[y_start + k] = c_k, scalars; x_start is ignored. */
typedef struct {
  int64_t activation; /* EQUIPOT_SILU: x / (1 + exp(-x)), EQUIPOT_TANH */
  int64_t dim, n_channels;
  int64_t gate_start, x_start, y_start;
  double factor;
} equipot_gate_block;

/* Every number of x is read by one block and every number of y written by one: EQUIPOT_BAD_PATH if their numbers do not add up. */
typedef struct {
  const equipot_gate_block* blocks; /* [n_blocks] */
  int64_t n_blocks;
  int64_t x_dim, y_dim; /* lengths of the rows */
} equipot_gate_map;

/* Forward y(x); backward, the gradient gx of <g, y(x)>; and double backward: with the cotangent u of gx, the gradients dg and dx of <u, gx>.
 *   x, gx, u, dx [n_atoms][x_dim], y, g, dg [n_atoms][y_dim]. dg or dx may be null: it is not computed. */
EQUIPOT_API int equipot_gate_f32(const equipot_gate_map* map, int64_t n_atoms, int n_threads, const float* x, float* y);
EQUIPOT_API int equipot_gate_backward_f32(const equipot_gate_map* map, int64_t n_atoms, int n_threads, const float* g, const float* x, float* gx);
EQUIPOT_API int equipot_gate_double_backward_f32(const equipot_gate_map* map, int64_t n_atoms, int n_threads, const float* u, const float* g,
                                                 const float* x, float* dg, float* dx);
EQUIPOT_API int equipot_gate_f64(const equipot_gate_map* map, int64_t n_atoms, int n_threads, const double* x, double* y);
EQUIPOT_API int equipot_gate_backward_f64(const equipot_gate_map* map, int64_t n_atoms, int n_threads, const double* g, const double* x, double* gx);
EQUIPOT_API int equipot_gate_double_backward_f64(const equipot_gate_map* map, int64_t n_atoms, int n_threads, const double* u, const double* g,
                                                 const double* x, double* dg, double* dx);

/* ---- Perceptron ------------------------------------------------------------------------------------------------------------------------- */

/* z_i = factors[i - 1] a_{i-1} W_i of layers i = 1 ... n_layers, a_0 = x, a_i = activation(z_i); the result is z_n. No biases. */
typedef struct {
  int64_t n_layers;      /* matrices; at least 2 */
  const int64_t* widths; /* [n_layers + 1]: of x, the hidden layers and the result */
  const double* factors; /* [n_layers] */
  int64_t activation;    /* as of a gate */
} equipot_perceptron;

/* Forward out(x, W); backward, the gradients gx and gW of <g, out>; and double backward: with the cotangent v of gx, the gradients dg, dx and dW of
 * <v, gx>. What follows needs of what came before is kept by the caller: z, all hidden z_i of the forward, and p, all hidden d<g, out>/da_i of the
 * backward, without the factor.
 *   x, gx, v, dx [n_rows][widths[0]]; out, g, dg [n_rows][widths[n_layers]]; z, p [n_rows][sum of the hidden widths]; w, gw, dw [n_layers]: addresses
 *   of matrices [widths[i]][widths[i + 1]]. gx, gw, dg, dx, dw may be null: they are not computed. Sums over rows are taken in an order that n_rows
 *   alone fixes. */
EQUIPOT_API int equipot_perceptron_f32(const equipot_perceptron* net, int64_t n_rows, int n_threads, const float* x, const float* const* w, float* z,
                                       float* out);
EQUIPOT_API int equipot_perceptron_backward_f32(const equipot_perceptron* net, int64_t n_rows, int n_threads, const float* g, const float* x,
                                                const float* z, const float* const* w, float* p, float* gx, float* const* gw);
EQUIPOT_API int equipot_perceptron_double_backward_f32(const equipot_perceptron* net, int64_t n_rows, int n_threads, const float* v, const float* g,
                                                       const float* x, const float* z, const float* p, const float* const* w, float* dg, float* dx,
                                                       float* const* dw);
EQUIPOT_API int equipot_perceptron_f64(const equipot_perceptron* net, int64_t n_rows, int n_threads, const double* x, const double* const* w,
                                       double* z, double* out);
EQUIPOT_API int equipot_perceptron_backward_f64(const equipot_perceptron* net, int64_t n_rows, int n_threads, const double* g, const double* x,
                                                const double* z, const double* const* w, double* p, double* gx, double* const* gw);
EQUIPOT_API int equipot_perceptron_double_backward_f64(const equipot_perceptron* net, int64_t n_rows, int n_threads, const double* v, const double* g,
                                                       const double* x, const double* z, const double* p, const double* const* w, double* dg,
                                                       double* dx, double* const* dw);

/* ---- Geometry --------------------------------------------------------------------------------------------------------------------------- */

/* Real harmonics of directions, component-normalised, polar axis y: Y[e, l*l + l + m] = N_lm P_l^(|m|)(y) Im or Re (z + ix)^|m| for l <= l_max <=
 * EQUIPOT_MAX_L, of (x, y, z) = v / |v|, which is 0 for v = 0; l = 1 is sqrt(3) (x, y, z); see equipot.math.harmonics.
 * Forward Y(v); backward, the gradient gv of <g, Y(v)>; and double backward: with the cotangent u of gv, the gradients dg and dv of <u, gv>:
 * dg = (dY/dv) u, and dv the second derivative of <g, Y(v)> times u.
 *   v, gv, u, dv [n_edges][3], y, g, dg [n_edges][(l_max + 1)^2]. dg or dv may be null: it is not computed. */
EQUIPOT_API int equipot_harmonics_f32(int64_t l_max, int64_t n_edges, int n_threads, const float* v, float* y);
EQUIPOT_API int equipot_harmonics_backward_f32(int64_t l_max, int64_t n_edges, int n_threads, const float* g, const float* v, float* gv);
EQUIPOT_API int equipot_harmonics_double_backward_f32(int64_t l_max, int64_t n_edges, int n_threads, const float* u, const float* g, const float* v,
                                                      float* dg, float* dv);
EQUIPOT_API int equipot_harmonics_f64(int64_t l_max, int64_t n_edges, int n_threads, const double* v, double* y);
EQUIPOT_API int equipot_harmonics_backward_f64(int64_t l_max, int64_t n_edges, int n_threads, const double* g, const double* v, double* gv);
EQUIPOT_API int equipot_harmonics_double_backward_f64(int64_t l_max, int64_t n_edges, int n_threads, const double* u, const double* g,
                                                      const double* v, double* dg, double* dv);

enum { EQUIPOT_POLYNOMIAL = 0, EQUIPOT_COSINE = 1 };

/* Radial functions e[i, k] = factor * sin(w_k r_i) / r_i * u(r_i), continued smoothly to r = 0 and 0 for r >= cutoff, with the envelope
 *   EQUIPOT_POLYNOMIAL: u = 1 - (p+1)(p+2)/2 x^p + p(p+2) x^(p+1) - p(p+1)/2 x^(p+2), x = r / cutoff, p >= 1;
 *   EQUIPOT_COSINE:     u = (1 + cos(pi r / cutoff)) / 2. */
typedef struct {
  int64_t n_basis;
  int64_t envelope, p; /* p is ignored for EQUIPOT_COSINE */
  double cutoff, factor;
} equipot_bessel;

/* Forward e(r, w); backward, the gradients gr and gw of <g, e(r, w)>; and double backward: with cotangents a, b of gr, gw, the gradients dg, dr, dw
 * of <a, gr> + <b, gw>. A cotangent may be null: it is zero. An output but e may be null: it is not computed.
 *   r, gr, a, dr [n_pairs], w, gw, b, dw [n_basis], e, g, dg [n_pairs][n_basis].
 *   work: scratch of equipot_bessel_work(n_pairs, n_basis) reals for gw or dw. Sums over pairs are taken in an order that n_pairs alone fixes.
 * Distances are not negative; |w r| below 8000 keeps full precision. */
EQUIPOT_API int64_t equipot_bessel_work(int64_t n_pairs, int64_t n_basis);
EQUIPOT_API int equipot_bessel_f32(const equipot_bessel* basis, int64_t n_pairs, int n_threads, const float* r, const float* w, float* e);
EQUIPOT_API int equipot_bessel_backward_f32(const equipot_bessel* basis, int64_t n_pairs, int n_threads, const float* g, const float* r,
                                            const float* w, float* gr, float* gw, float* work);
EQUIPOT_API int equipot_bessel_double_backward_f32(const equipot_bessel* basis, int64_t n_pairs, int n_threads, const float* a, const float* b,
                                                   const float* g, const float* r, const float* w, float* dg, float* dr, float* dw, float* work);
EQUIPOT_API int equipot_bessel_f64(const equipot_bessel* basis, int64_t n_pairs, int n_threads, const double* r, const double* w, double* e);
EQUIPOT_API int equipot_bessel_backward_f64(const equipot_bessel* basis, int64_t n_pairs, int n_threads, const double* g, const double* r,
                                            const double* w, double* gr, double* gw, double* work);
EQUIPOT_API int equipot_bessel_double_backward_f64(const equipot_bessel* basis, int64_t n_pairs, int n_threads, const double* a, const double* b,
                                                   const double* g, const double* r, const double* w, double* dg, double* dr, double* dw,
                                                   double* work);

#ifdef __cplusplus
}
#endif
#endif
