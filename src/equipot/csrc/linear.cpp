// The C entry points of the linear maps: checks, atoms by element, tasks of one block of one chunk of atoms.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <new>

#include "atoms.hpp"
#include "dispatch.hpp"
#include "linear.hpp"
#include "parallel.hpp"

namespace {

using equipot::AtomGroups;
using equipot::Chunk;
using equipot::Rows;

constexpr int64_t chunk_atoms = 128;
// Multiplications below which a second thread costs more than it saves.
constexpr int64_t small_work = 1500000;
constexpr int64_t longest = int64_t{1} << 31;  // of a row; keeps products of two within int64

// Blocks lie in their rows, in order and without overlap.
int check(const equipot_linear_map* map, int64_t n_atoms, int64_t n_elements, const int64_t* species) {
  if (!map || map->n_blocks < 0 || (map->n_blocks && !map->blocks) || n_atoms < 0 || n_elements < 0) return EQUIPOT_BAD_ARGUMENT;
  if (map->x_dim < 0 || map->y_dim < 0 || std::max(map->x_dim, map->y_dim) > longest) return EQUIPOT_BAD_ARGUMENT;
  if (!species && n_atoms && n_elements != 1) return EQUIPOT_BAD_ARGUMENT;
  int64_t x = 0, y = 0;
  for (int64_t i = 0; i < map->n_blocks; ++i) {
    const equipot_linear_block& b = map->blocks[i];
    if (b.dim < 1 || b.k_in < 1 || b.k_out < 1 || std::max({b.dim, b.k_in, b.k_out}) > longest) return EQUIPOT_BAD_PATH;
    if (b.x_start < x || b.x_start > map->x_dim || b.dim * b.k_in > map->x_dim - b.x_start) return EQUIPOT_BAD_PATH;
    if (b.y_start < y || b.y_start > map->y_dim || b.dim * b.k_out > map->y_dim - b.y_start) return EQUIPOT_BAD_PATH;
    x = b.x_start + b.dim * b.k_in, y = b.y_start + b.dim * b.k_out;
  }
  return EQUIPOT_OK;
}

// One call. Forward and transposed: rows of `from` to rows of `to`; weights: x and g to gw.
template <class T>
struct Task {
  const equipot_linear_map* map;
  const equipot::Linear<T>* kernels;
  AtomGroups groups;
  std::vector<int64_t> w_start;  // of every block, and w_dim
  bool transposed;
  const T *x, *g, *w;
  T *to, *parts;
  std::atomic<bool>* out_of_memory;

  int64_t w_dim() const { return w_start.back(); }
};

template <class T>
void clear(T* to, int64_t stride, const int64_t* atoms, int64_t n_atoms, int64_t begin, int64_t end) {
  if (begin == end) return;
  for (int64_t a = 0; a < n_atoms; ++a) std::memset(to + atoms[a] * stride + begin, 0, sizeof(T) * static_cast<size_t>(end - begin));
}

// A block of a chunk, and what lies between it and the block before (after it too if it is the last), which no block writes.
template <class T>
void run_block(const void* data, int64_t i) {
  const auto& task = *static_cast<const Task<T>*>(data);
  const auto& map = *task.map;
  const Chunk& chunk = task.groups.chunks[i / map.n_blocks];
  const int64_t number = i % map.n_blocks, n = chunk.end - chunk.begin;
  const int64_t* atoms = task.groups.order.data() + chunk.begin;
  const bool back = task.transposed;
  const auto start = [&](const equipot_linear_block& b) { return back ? b.x_start : b.y_start; };
  const auto stop = [&](const equipot_linear_block& b) { return start(b) + b.dim * (back ? b.k_in : b.k_out); };
  const equipot_linear_block& block = map.blocks[number];
  const int64_t stride = back ? map.x_dim : map.y_dim;
  clear(task.to, stride, atoms, n, number ? stop(map.blocks[number - 1]) : 0, start(block));
  if (number + 1 == map.n_blocks) clear(task.to, stride, atoms, n, stop(block), stride);

  const T* w = task.w + chunk.element * task.w_dim() + task.w_start[number];
  if (!back) {
    task.kernels->multiply({task.x + block.x_start, map.x_dim, block.k_in}, {task.to + block.y_start, map.y_dim, block.k_out}, atoms, n, block.dim, w);
    return;
  }
  const std::unique_ptr<T[]> turned(new (std::nothrow) T[block.k_in * block.k_out]);
  if (!turned) {
    task.out_of_memory->store(true);
    return;
  }
  task.kernels->transpose(w, block.k_in, block.k_out, turned.get());
  task.kernels->multiply({task.g + block.y_start, map.y_dim, block.k_out}, {task.to + block.x_start, map.x_dim, block.k_in}, atoms, n, block.dim,
                         turned.get());
}

// Where a chunk's sum over its atoms goes: to the result if it is the only one of its element, else to its own part.
template <class T>
T* part(const Task<T>& task, int64_t c) {
  const auto& chunks = task.groups.chunks;
  const int64_t z = chunks[c].element, last = static_cast<int64_t>(chunks.size()) - 1;
  const bool alone = (c == 0 || chunks[c - 1].element != z) && (c == last || chunks[c + 1].element != z);
  return alone ? task.to + z * task.w_dim() : task.parts + c * task.w_dim();
}

template <class T>
void run_weights(const void* data, int64_t i) {
  const auto& task = *static_cast<const Task<T>*>(data);
  const auto& map = *task.map;
  const int64_t c = i / map.n_blocks, number = i % map.n_blocks;
  const Chunk& chunk = task.groups.chunks[c];
  const equipot_linear_block& block = map.blocks[number];
  task.kernels->outer({task.x + block.x_start, map.x_dim, block.k_in}, {task.g + block.y_start, map.y_dim, block.k_out},
                      task.groups.order.data() + chunk.begin, chunk.end - chunk.begin, block.dim, part(task, c) + task.w_start[number], 0,
                      block.k_out);
}

// Sums the parts of element i's chunks, if it has several; zeros if it has none.
template <class T>
void run_sum(const void* data, int64_t i) {
  const auto& task = *static_cast<const Task<T>*>(data);
  const auto& chunks = task.groups.chunks;
  const auto first = std::partition_point(chunks.begin(), chunks.end(), [&](const Chunk& c) { return c.element < i; });
  const auto last = std::partition_point(first, chunks.end(), [&](const Chunk& c) { return c.element == i; });
  T* to = task.to + i * task.w_dim();
  if (first == last) std::memset(to, 0, sizeof(T) * static_cast<size_t>(task.w_dim()));
  if (last - first > 1) task.kernels->sum_parts(task.parts + (first - chunks.begin()) * task.w_dim(), last - first, task.w_dim(), task.w_dim(), to);
}

// Fills the task but for its arrays.
template <class T>
int prepare(Task<T>& task, const equipot_linear_map* map, int64_t n_atoms, int64_t n_elements, const int64_t* species, int64_t chunk, int& n_threads) {
  if (const int status = check(map, n_atoms, n_elements, species)) return status;
  task.map = map, task.kernels = equipot::active_kernels().linear<T>();
  if (!equipot::group_atoms(n_atoms, n_elements, species, chunk, task.groups)) return EQUIPOT_BAD_INDEX;
  int64_t work = 0;
  task.w_start.assign(1, 0);
  for (int64_t i = 0; i < map->n_blocks; ++i) {
    const equipot_linear_block& b = map->blocks[i];
    task.w_start.push_back(task.w_start.back() + b.k_in * b.k_out);
    work += b.dim * b.k_in * b.k_out * n_atoms;
  }
  if (work < small_work) n_threads = 1;
  return EQUIPOT_OK;
}

template <class T>
int rows(const equipot_linear_map* map, int64_t n_atoms, int64_t n_elements, const int64_t* species, int n_threads, bool transposed, const T* from,
         const T* w, T* to) try {
  Task<T> task{};
  if (const int status = prepare(task, map, n_atoms, n_elements, species, chunk_atoms, n_threads)) return status;
  const int64_t to_dim = transposed ? map->x_dim : map->y_dim;
  if (!n_atoms || !to_dim) return EQUIPOT_OK;
  if (!to || (map->n_blocks && (!from || !w))) return EQUIPOT_BAD_ARGUMENT;
  if (!map->n_blocks) std::memset(to, 0, sizeof(T) * static_cast<size_t>(n_atoms * to_dim));
  std::atomic<bool> out_of_memory{false};
  task.transposed = transposed, task.w = w, task.to = to, task.out_of_memory = &out_of_memory;
  (transposed ? task.g : task.x) = from;
  equipot::parallel_for(static_cast<int64_t>(task.groups.chunks.size()) * map->n_blocks, n_threads, run_block<T>, &task);
  return out_of_memory ? EQUIPOT_OUT_OF_MEMORY : EQUIPOT_OK;
} catch (const std::bad_alloc&) {
  return EQUIPOT_OUT_OF_MEMORY;
}

template <class T>
int weights(const equipot_linear_map* map, int64_t n_atoms, int64_t n_elements, const int64_t* species, int n_threads, const T* x, const T* g,
            T* gw) try {
  Task<T> task{};
  if (const int status = prepare(task, map, n_atoms, n_elements, species, equipot::summing_chunk(n_atoms), n_threads)) return status;
  if (!n_elements || !task.w_dim()) return EQUIPOT_OK;
  if (!gw || (n_atoms && (!x || !g))) return EQUIPOT_BAD_ARGUMENT;
  const auto& chunks = task.groups.chunks;
  const auto n_chunks = static_cast<int64_t>(chunks.size());
  const auto same = [](const Chunk& a, const Chunk& b) { return a.element == b.element; };
  std::unique_ptr<T[]> parts;
  if (std::adjacent_find(chunks.begin(), chunks.end(), same) != chunks.end()) parts.reset(new T[n_chunks * task.w_dim()]);
  task.x = x, task.g = g, task.to = gw, task.parts = parts.get();
  equipot::parallel_for(n_chunks * map->n_blocks, n_threads, run_weights<T>, &task);
  equipot::parallel_for(n_elements, n_threads, run_sum<T>, &task);
  return EQUIPOT_OK;
} catch (const std::bad_alloc&) {
  return EQUIPOT_OUT_OF_MEMORY;
}

}  // namespace

#define EQUIPOT_DEFINE(T, suffix)                                                                                                          \
  int equipot_linear_##suffix(const equipot_linear_map* map, int64_t n_atoms, int64_t n_elements, const int64_t* species, int n_threads,   \
                              const T* x, const T* w, T* y) {                                                                              \
    return rows<T>(map, n_atoms, n_elements, species, n_threads, false, x, w, y);                                                          \
  }                                                                                                                                        \
  int equipot_linear_transposed_##suffix(const equipot_linear_map* map, int64_t n_atoms, int64_t n_elements, const int64_t* species,       \
                                         int n_threads, const T* g, const T* w, T* gx) {                                                   \
    return rows<T>(map, n_atoms, n_elements, species, n_threads, true, g, w, gx);                                                          \
  }                                                                                                                                        \
  int equipot_linear_weights_##suffix(const equipot_linear_map* map, int64_t n_atoms, int64_t n_elements, const int64_t* species,          \
                                      int n_threads, const T* x, const T* g, T* gw) {                                                      \
    return weights<T>(map, n_atoms, n_elements, species, n_threads, x, g, gw);                                                             \
  }
EQUIPOT_DEFINE(float, f32)
EQUIPOT_DEFINE(double, f64)
#undef EQUIPOT_DEFINE
