// Making and checking plans.
#include "plan.hpp"

#include <algorithm>
#include <new>
#include <tuple>

namespace {

using equipot::Path;

// The block (rows, n_channels) at `start` with row stride `stride` lies in a row of `dim` numbers. Written so that nothing can overflow.
bool fits(int64_t start, int64_t rows, int64_t stride, int64_t n_channels, int64_t dim) {
  return start >= 0 && start <= dim && stride >= 0 && stride <= dim && n_channels <= dim && start + (rows - 1) * stride + n_channels <= dim;
}

// Marks numbers as used; false if one already was.
bool claim(std::vector<char>& used, int64_t start, int64_t n) {
  for (int64_t i = start; i < start + n; ++i) {
    if (used[i]) return false;
    used[i] = 1;
  }
  return true;
}

bool all(const std::vector<char>& used) {
  return std::all_of(used.begin(), used.end(), [](char c) { return c != 0; });
}

// Marks the first path of every block of h. False, and none marked, if blocks overlap without being the same or leave numbers out.
bool mark_first_of_h(equipot_plan& plan) {
  std::vector<char> used(plan.h_dim, 0);
  bool distinct = true;
  for (size_t i = 0; i < plan.paths.size() && distinct; ++i) {
    Path& p = plan.paths[i];
    const Path* before = i ? &plan.paths[i - 1] : nullptr;
    const bool same = before && before->h_start == p.h_start && before->l1 == p.l1 && before->n_channels == p.n_channels;
    p.first_of_h = !same;
    distinct = same || claim(used, p.h_start, p.d1() * p.n_channels);
  }
  if (distinct && all(used)) return true;
  for (Path& p : plan.paths) p.first_of_h = false;
  return false;
}

int fill(equipot_plan& plan, const equipot_path* paths, int64_t n_paths) {
  std::vector<char> w_used(plan.w_dim, 0), out_used(plan.out_dim, 0);
  for (int64_t i = 0; i < n_paths; ++i) {
    const equipot_path& in = paths[i];
    Path p{};
    p.coefficients = equipot::find_coefficients(in.l1, in.l2, in.l3, &p.n_coefficients);
    if (!p.coefficients || in.n_channels < 1 || (in.l2 + 1) * (in.l2 + 1) > plan.y_dim) return EQUIPOT_BAD_PATH;
    p.l1 = static_cast<int>(in.l1), p.l2 = static_cast<int>(in.l2), p.l3 = static_cast<int>(in.l3);
    p.n_channels = in.n_channels, p.h_start = in.h_start, p.w_start = in.w_start;
    p.out_start = in.out_start, p.out_stride = in.out_stride, p.out_channel = in.out_channel;
    if (in.out_channel < 0 || in.out_start < 0 || in.out_start > plan.out_dim || in.out_channel > plan.out_dim) return EQUIPOT_BAD_PATH;
    if (!fits(in.h_start, p.d1(), in.n_channels, in.n_channels, plan.h_dim) || !fits(in.w_start, 1, 0, in.n_channels, plan.w_dim) ||
        !fits(in.out_start + in.out_channel, p.d3(), in.out_stride, in.n_channels, plan.out_dim))
      return EQUIPOT_BAD_PATH;
    if (!claim(w_used, p.w_start, p.n_channels)) return EQUIPOT_BAD_PATH;
    for (int m = 0; m < p.d3(); ++m)
      if (!claim(out_used, p.out_start + m * p.out_stride + p.out_channel, p.n_channels)) return EQUIPOT_BAD_PATH;
    plan.edge_work += (p.d1() * p.d3() + p.d1()) * p.n_channels;
    plan.paths.push_back(p);
  }
  plan.w_covered = all(w_used), plan.out_covered = all(out_used);
  // blocks of h one after another: the rows of a block of edges stay in the cache while its paths run
  const auto order = [](const Path& p) { return std::make_tuple(p.h_start, p.l2, p.l3); };
  std::stable_sort(plan.paths.begin(), plan.paths.end(), [&](const Path& a, const Path& b) { return order(a) < order(b); });
  plan.h_covered = mark_first_of_h(plan);
  plan.zeros.assign(std::max(plan.h_dim, plan.w_dim), 0.0);
  return EQUIPOT_OK;
}

}  // namespace

int equipot_plan_create(const equipot_path* paths, int64_t n_paths, int64_t l_max, int64_t h_dim, int64_t w_dim, int64_t out_dim,
                        equipot_plan** plan) {
  constexpr int64_t longest = int64_t{1} << 40;  // of a row; keeps every product below within int64
  if (!plan || n_paths < 0 || (n_paths > 0 && !paths) || std::min({h_dim, w_dim, out_dim}) < 0) return EQUIPOT_BAD_ARGUMENT;
  if (std::max({h_dim, w_dim, out_dim}) > longest) return EQUIPOT_BAD_ARGUMENT;
  if (l_max < 0 || l_max > EQUIPOT_MAX_L) return EQUIPOT_BAD_PATH;
  try {
    auto made = new equipot_plan{{}, h_dim, (l_max + 1) * (l_max + 1), w_dim, out_dim, 0, false, false, false, {}};
    int status = EQUIPOT_OUT_OF_MEMORY;
    try {
      status = fill(*made, paths, n_paths);
    } catch (const std::bad_alloc&) {
    }
    if (status != EQUIPOT_OK) {
      delete made;
      return status;
    }
    *plan = made;
  } catch (const std::bad_alloc&) {
    return EQUIPOT_OUT_OF_MEMORY;
  }
  return EQUIPOT_OK;
}

void equipot_plan_destroy(equipot_plan* plan) { delete plan; }
