// The gate, row by row, vectors of channels; compiled once per instruction set.
#include "activations.hpp"
#include "gate.hpp"

namespace EQUIPOT_NAMESPACE {
namespace {

using equipot::GateJob;

struct Forward {
  template <class T, class L>
  static EQUIPOT_INLINE void run(const GateJob<T>& job, const equipot_gate_block& block, int64_t i, int64_t k, const L& lane) {
    const T* row = job.x + i * job.map->x_dim;
    T* y = job.to + i * job.map->y_dim + block.y_start + k;
    const T* x = row + block.x_start + k;
    const Vec<T> gate = activation<T>(block.activation, lane.load(row + block.gate_start + k)).value * broadcast<T>(static_cast<T>(block.factor));
    if (!block.dim) return lane.store(y, gate);
    for (int64_t m = 0; m < block.dim; ++m) lane.store(y + m * block.n_channels, gate * lane.load(x + m * block.n_channels));
  }
};

struct Backward {
  template <class T, class L>
  static EQUIPOT_INLINE void run(const GateJob<T>& job, const equipot_gate_block& block, int64_t i, int64_t k, const L& lane) {
    const int64_t row = i * job.map->x_dim, x_start = block.x_start + k, gate_start = row + block.gate_start + k;
    const T* g = job.g + i * job.map->y_dim + block.y_start + k;
    const auto f = activation<T>(block.activation, lane.load(job.x + gate_start));
    const Vec<T> factor = broadcast<T>(static_cast<T>(block.factor)), value = f.value * factor;
    Vec<T> pull = block.dim ? Vec<T>{} : lane.load(g);
    for (int64_t m = 0; m < block.dim; ++m) {
      const int64_t at = row + x_start + m * block.n_channels;
      const Vec<T> gm = lane.load(g + m * block.n_channels);
      pull += gm * lane.load(job.x + at);
      lane.store(job.to + at, value * gm);
    }
    lane.store(job.to + gate_start, f.first * factor * pull);
  }
};

struct DoubleBackward {
  template <class T, class L>
  static EQUIPOT_INLINE void run(const GateJob<T>& job, const equipot_gate_block& block, int64_t i, int64_t k, const L& lane) {
    const int64_t row = i * job.map->x_dim, x_start = block.x_start + k, gate_start = row + block.gate_start + k;
    const int64_t y_start = i * job.map->y_dim + block.y_start + k;
    const auto f = activation<T>(block.activation, lane.load(job.x + gate_start));
    const Vec<T> factor = broadcast<T>(static_cast<T>(block.factor)), value = f.value * factor;
    const Vec<T> slope = f.first * factor * lane.load(job.u + gate_start);  // the tangent of the gate along u
    Vec<T> pull = block.dim ? Vec<T>{} : lane.load(job.g + y_start), pull_u{};
    if (!block.dim && job.dg) lane.store(job.dg + y_start, slope);
    for (int64_t m = 0; m < block.dim; ++m) {
      const int64_t at = row + x_start + m * block.n_channels, to = y_start + m * block.n_channels;
      const Vec<T> gm = lane.load(job.g + to), xm = lane.load(job.x + at), um = lane.load(job.u + at);
      pull += gm * xm;
      pull_u += gm * um;
      if (job.dg) lane.store(job.dg + to, slope * xm + value * um);
      if (job.to) lane.store(job.to + at, slope * gm);
    }
    if (job.to) lane.store(job.to + gate_start, factor * (f.second * lane.load(job.u + gate_start) * pull + f.first * pull_u));
  }
};

template <class Pass, class T>
void run(const GateJob<T>& job, int64_t first, int64_t last) {
  const Lanes<T, false> whole(0);
  for (int64_t b = 0; b < job.map->n_blocks; ++b) {
    const equipot_gate_block block = job.map->blocks[b];
    const int64_t n = block.n_channels / lanes<T> * lanes<T>;
    for (int64_t i = first; i < last; ++i) {
      for (int64_t k = 0; k < n; k += lanes<T>) Pass::run(job, block, i, k, whole);
      if (n < block.n_channels) Pass::run(job, block, i, n, Lanes<T, true>(block.n_channels - n));
    }
  }
}

template <class T>
constexpr equipot::Gate<T> gate = {run<Forward, T>, run<Backward, T>, run<DoubleBackward, T>};

}  // namespace

extern const equipot::Gate<float> gate_f32;
extern const equipot::Gate<double> gate_f64;
const equipot::Gate<float> gate_f32 = gate<float>;
const equipot::Gate<double> gate_f64 = gate<double>;

}  // namespace EQUIPOT_NAMESPACE
