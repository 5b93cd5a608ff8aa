/* equipot_engine: energies and forces of an exported model (.eqn), as one C interface without any dependency: no torch, no Python, no OpenMP.
 *
 * This header is the whole contract.
 *
 * Conventions
 *   Lengths are in A, energies in eV, forces in eV/A. Arrays are dense and row-major; shapes stand in brackets. The caller owns every array it
 *   passes; the engine keeps no pointer to one after a call returns. Buffers the engine hands out are
 *   its own.
 *   An edge e goes from a neighbour j (sender) to a centre i (receiver); its vector is r_j - r_i, for the image of j that is meant.
 *   Functions that can fail return EQ_OK or a negative code; eq_error then has one line of English. Nothing exits, prints or throws.
 *   An engine is used by one thread at a time; different engines are independent. Its own threads (eq_set_threads) work inside its calls only, and
 *   results do not depend on their number, bit for bit.
 *
 * One process, all atoms its own: eq_open, then eq_compute for every configuration, eq_close.
 *
 * Domain decomposition: a process has n_local atoms of its own, [0, n_local), and n_ghost copies of others, [n_local, n_local + n_ghost): every
 * atom (and image) within one cutoff of a local atom. Edges are given for local receivers only; senders may be ghosts. With T layers:
 *
 *   eq_begin(...)
 *   for t = 0 ... T-1:
 *     if t > 0:  forward communication: the row of every ghost in eq_rows(t) is copied from its owner's row
 *     eq_forward_layer(t)                       reads rows t of local and ghost atoms; writes rows t+1 of local atoms
 *   eq_energies(...)                            energies of local atoms; may be called at any time from here on
 *   for t = T-1 ... 0:
 *     eq_backward_layer(t)                      writes row gradients t of local and ghost atoms
 *     if t > 0:  reverse communication: each ghost's row in eq_row_gradients(t) is added to its owner's row
 *   eq_forces(...)                              forces on local and ghost atoms; those of ghosts are added to their owners' by the caller
 *
 * Rows 0 depend on the element alone: nothing is exchanged for t = 0, in either direction. All ranks make the same sequence of calls, ranks without
 * atoms too. A call out of this order returns EQ_BAD_STATE and changes nothing. Energies alone need no backward layers.
 *
 * Energy and virial are sums over the processes. The partition of both over atoms:
 *   E_i is the site energy of atom i, reference energy and its half of pair terms included; E = sum_i E_i.
 *   W_i = - sum_{e: receiver = i} r_e (x) dE/dr_e, 3 x 3, W_i[a][b] = - sum r_e[a] dE/dr_e[b]: what the edges that end at i contribute, E being the
 *   energy of the whole system; W = sum_i W_i. So no virial is on ghosts. A single W_i need not be symmetric; W is.  W = - V stress.
 */
#ifndef EQUIPOT_ENGINE_H
#define EQUIPOT_ENGINE_H

#include <stdint.h>

#if defined(__GNUC__)
#define EQ_API __attribute__((visibility("default")))
#else
#define EQ_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Raised whenever a signature or a meaning below changes; compare it with eq_abi_version() after loading. */
#define EQ_ABI_VERSION 2
/* The newest version of the model file that this engine reads; newer ones are refused. Version 2 has ensembles. */
#define EQ_FILE_VERSION 2

enum {
  EQ_OK = 0,
  EQ_BAD_ARGUMENT = -1,  /* a null pointer, a negative size, a layer or precision that does not exist */
  EQ_BAD_FILE = -2,      /* not there, not a model, damaged, or of a newer version */
  EQ_BAD_INDEX = -3,     /* a type or an atom out of range, or edge_start not ascending from 0 */
  EQ_BAD_STATE = -4,     /* a call out of order */
  EQ_OUT_OF_MEMORY = -5
};

/* Type of weights, features, rows and row gradients. Geometry, energies, forces and all sums over atoms are double in both. */
enum { EQ_FLOAT32 = 4, EQ_FLOAT64 = 8 }; /* bytes of a number */

typedef struct eq_engine eq_engine;

EQ_API int eq_abi_version(void);
/* The instruction set in use: "avx512", "avx2" or "baseline"; the best of this machine, or the one that the environment variable
 * EQUIPOT_INSTRUCTION_SET names if the machine has it. */
EQ_API const char* eq_instruction_set(void);

/* ---- Opening a model -------------------------------------------------------------------------------------------------------------------- */

/* Reads the model file at `path`. On success *engine is to be closed by eq_close, with one thread and no atoms.
 * On failure *engine is null and `message` (message_size bytes, may be null) has one line, cut to fit and terminated. */
EQ_API int eq_open(const char* path, int precision, eq_engine** engine, char* message, int64_t message_size);
/* The same from the `size` bytes of such a file, which are not needed afterwards. */
EQ_API int eq_open_memory(const void* bytes, int64_t size, int precision, eq_engine** engine, char* message, int64_t message_size);
EQ_API void eq_close(eq_engine* engine); /* null is allowed */
/* Why the last call on this engine failed; one line, never null, valid until the next call. */
EQ_API const char* eq_error(const eq_engine* engine);
/* Threads inside a call, at least 1. The calling thread is one of them. */
EQ_API int eq_set_threads(eq_engine* engine, int n_threads);

/* ---- What the model is ------------------------------------------------------------------------------------------------------------------ */

EQ_API int eq_precision(const eq_engine* engine); /* bytes of a number in rows */
EQ_API int eq_n_elements(const eq_engine* engine);
/* Atomic numbers, ascending; a type is an index into them. [n_elements] */
EQ_API const int32_t* eq_elements(const eq_engine* engine);
/* The largest cutoff of all pairs of elements; ghosts are needed up to it from local atoms. */
EQ_API double eq_cutoff(const eq_engine* engine);
/* The cutoff of a pair of types, centre and neighbour; edges not shorter than it are ignored wherever edges are given. */
EQ_API double eq_pair_cutoff(const eq_engine* engine, int type_centre, int type_neighbour);
EQ_API int eq_n_layers(const eq_engine* engine);
/* Numbers in a row of layer t < T: what an atom sends to its neighbours in layer t. */
EQ_API int64_t eq_row_length(const eq_engine* engine, int t);
/* Models in the file: 1, or the members of an ensemble. They have elements, cutoffs, layers and row lengths in common. */
EQ_API int eq_n_members(const eq_engine* engine);
/* The JSON text of the file's header: specification, provenance, error of the tabulation. Null-terminated. */
EQ_API const char* eq_header(const eq_engine* engine);
/* Bytes held for the configurations computed so far, the model itself left out; they are kept for the next one. */
EQ_API int64_t eq_bytes(const eq_engine* engine);

/* ---- One process ------------------------------------------------------------------------------------------------------------------------ */

/* All at once for n_atoms atoms. Edge vectors are positions[j] - positions[i] + shift @ cell.
 *   types [n_atoms]; positions [n_atoms][3]; cell [3][3], rows are lattice vectors, may be null if shift is;
 *   edge_start [n_atoms + 1]: the edges of centre i are edge_start[i] ... edge_start[i+1]; sender [n_edges]; shift [n_edges][3] or null for none.
 * Edges beyond the cutoff are ignored: a list with a skin may be given as it is. The order of atoms is the caller's: they are computed in one of the
 * engine's own, in which those that are near in space are near in memory.
 * Outputs, each may be null: energy [1]; energies [n_atoms]; forces [n_atoms][3]; virial [3][3]; virials [n_atoms][3][3].
 * If forces, virial and virials are null, no derivative is computed.
 * Of an ensemble of M members all are means over the members, one after another on the same edges. */
EQ_API int eq_compute(eq_engine* engine, int64_t n_atoms, const int32_t* types, const double* positions, const double* cell,
                      const int64_t* edge_start, const int32_t* sender, const int32_t* shift, double* energy, double* energies, double* forces,
                      double* virial, double* virials);

/* The same, and how far the members are apart, each of the last two may be null; EQ_BAD_ARGUMENT for one model alone.
 *   energy_std [1] = sqrt(sum_m (E_m - <E>)^2 / (M - 1)); forces_std [n_atoms] = sqrt(sum_m |F_im - <F_i>|^2 / (M - 1)). */
EQ_API int eq_compute_spread(eq_engine* engine, int64_t n_atoms, const int32_t* types, const double* positions, const double* cell,
                             const int64_t* edge_start, const int32_t* sender, const int32_t* shift, double* energy, double* energies, double* forces,
                             double* virial, double* virials, double* energy_std, double* forces_std);

/* ---- Domain decomposition ---------------------------------------------------------------------------------------------------------------- */

/* A new configuration. types [n_local + n_ghost]; edge_start [n_local + 1]; sender [n_edges], indices below n_local + n_ghost; vectors
 * [n_edges][3], r_sender - r_receiver. Everything is copied. Edges beyond the cutoff of their pair are ignored. */
EQ_API int eq_begin(eq_engine* engine, int64_t n_local, int64_t n_ghost, const int32_t* types, const int64_t* edge_start, const int32_t* sender,
                    const double* vectors);

/* The next member of an ensemble, on the configuration of eq_begin: its layers, energies and forces follow as those of the first did, and are its own;
 * means are the caller's. EQ_BAD_STATE behind the last member. */
EQ_API int eq_next_member(eq_engine* engine);

/* Layer t = 0 ... T-1, in this order, each once. */
EQ_API int eq_forward_layer(eq_engine* engine, int t);

/* Rows of layer 1 <= t < T: [n_local + n_ghost][row_length(t)] of the engine's precision. Local rows are there after eq_forward_layer(t-1); the
 * caller fills those of ghosts before eq_forward_layer(t). Valid until eq_backward_layer(t) or the next eq_begin; null otherwise and if t is
 * out of range. */
EQ_API void* eq_rows(eq_engine* engine, int t);

/* After the last eq_forward_layer. energy [1], the sum over local atoms; energies [n_local]; each may be null. */
EQ_API int eq_energies(eq_engine* engine, double* energy, double* energies);

/* Layer t = T-1 ... 0, in this order, each once, after the last eq_forward_layer. */
EQ_API int eq_backward_layer(eq_engine* engine, int t);

/* Row gradients of layer 1 <= t < T: dE/d(row), [n_local + n_ghost][row_length(t)] of the engine's precision. All are there after
 * eq_backward_layer(t); the caller adds ghosts' to their owners' before eq_backward_layer(t-1). Null if t is out of range or before its time.
 * Only the gradients of one layer are kept: those of t are gone after eq_backward_layer(t-1). */
EQ_API void* eq_row_gradients(eq_engine* engine, int t);

/* After eq_backward_layer(0). forces [n_local + n_ghost][3]: minus the derivative of this process's part of the energy's edges, overwritten, not added
 * to; virial [3][3]; virials [n_local][3][3]; each may be null. */
EQ_API int eq_forces(eq_engine* engine, double* forces, double* virial, double* virials);

#ifdef __cplusplus
}
#endif

#endif
