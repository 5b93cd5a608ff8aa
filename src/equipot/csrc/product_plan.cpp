// Making and checking plans of the symmetric product: the tree of monomials, and the couplings as sparse sums over it.
#include <algorithm>
#include <array>
#include <map>
#include <new>

#include "product.hpp"

namespace {

using Monomial = std::vector<int64_t>;

struct Draft {
  std::vector<Monomial> monomials;                          // of every entry, ascending
  std::map<Monomial, int32_t> number;                       // of a monomial among the nodes
  std::map<std::pair<int64_t, int64_t>, int32_t> row;       // by (out, weight)
};

int read(const equipot_product& plan, const equipot_product_entry* entries, int64_t n, Draft& draft) {
  for (int64_t i = 0; i < n; ++i) {
    const equipot_product_entry& e = entries[i];
    if (e.order < 1 || e.order > EQUIPOT_MAX_CORRELATION) return EQUIPOT_BAD_PATH;
    if (e.weight < 0 || e.weight >= plan.n_weights || e.out < 0 || e.out >= plan.n_out) return EQUIPOT_BAD_PATH;
    Monomial m(e.factor, e.factor + e.order);
    for (int64_t f : m)
      if (f < 0 || f >= plan.n_in) return EQUIPOT_BAD_PATH;
    std::sort(m.begin(), m.end());
    draft.monomials.push_back(m);
    draft.row.emplace(std::make_pair(e.out, e.weight), 0);
    for (; m.size() > 1; m.pop_back()) draft.number.emplace(m, 0);
  }
  return EQUIPOT_OK;
}

// Numbers the nodes: variables, then inner ones by degree, then leaves by parent.
void number_nodes(equipot_product& plan, Draft& draft) {
  std::map<Monomial, bool> has_children;
  const auto parent = [](const Monomial& m) { return Monomial(m.begin(), m.end() - 1); };
  for (const auto& item : draft.number) has_children[parent(item.first)] = true;
  for (int64_t v = 0; v < plan.n_in; ++v) {
    plan.nodes.push_back({0, static_cast<int32_t>(v)});
    draft.number[{v}] = static_cast<int32_t>(v);
  }
  const auto append = [&](const Monomial& m) {
    const int32_t from = draft.number.at(parent(m));
    draft.number[m] = static_cast<int32_t>(plan.nodes.size());
    plan.nodes.push_back({from, static_cast<int32_t>(m.back())});
  };
  for (size_t degree = 2; degree <= EQUIPOT_MAX_CORRELATION; ++degree)
    for (const auto& item : draft.number)
      if (item.first.size() == degree && has_children.count(item.first)) append(item.first);
  plan.n_inner = static_cast<int32_t>(plan.nodes.size());
  std::vector<std::pair<int32_t, Monomial>> leaves;
  for (const auto& item : draft.number)
    if (item.first.size() > 1 && !has_children.count(item.first)) leaves.emplace_back(draft.number.at(parent(item.first)), item.first);
  std::sort(leaves.begin(), leaves.end());
  plan.leaf_start.assign(plan.n_inner + 1, 0);
  for (const auto& leaf : leaves) append(leaf.second), ++plan.leaf_start[leaf.first + 1];
  plan.n_nodes = static_cast<int32_t>(plan.nodes.size());
  plan.leaf_start[0] = plan.n_inner;
  for (int32_t i = 0; i < plan.n_inner; ++i) plan.leaf_start[i + 1] += plan.leaf_start[i];
}

void number_rows(equipot_product& plan, Draft& draft) {
  plan.row_start.assign(plan.n_out + 1, 0);
  for (auto& item : draft.row) {
    item.second = static_cast<int32_t>(plan.rows.size());
    plan.rows.push_back({static_cast<int32_t>(item.first.second), static_cast<int32_t>(item.first.first)});
    ++plan.row_start[item.first.first + 1];
  }
  for (int64_t o = 0; o < plan.n_out; ++o) plan.row_start[o + 1] += plan.row_start[o];
}

using Term = std::array<int32_t, 2>;

// Lists of terms by their first index; equal ones are added.
equipot::ProductTerms collect(int32_t n_lists, const std::map<Term, double>& terms) {
  equipot::ProductTerms result;
  result.start.assign(n_lists + 1, 0);
  for (const auto& item : terms) {
    ++result.start[item.first[0] + 1];
    result.index.push_back(item.first[1]);
    result.f64.push_back(item.second);
    result.f32.push_back(static_cast<float>(item.second));
  }
  for (int32_t i = 0; i < n_lists; ++i) result.start[i + 1] += result.start[i];
  return result;
}

int fill(equipot_product& plan, const equipot_product_entry* entries, int64_t n_entries) {
  Draft draft;
  if (const int status = read(plan, entries, n_entries, draft)) return status;
  number_nodes(plan, draft);
  number_rows(plan, draft);
  std::map<Term, double> by_row, by_node;
  for (int64_t i = 0; i < n_entries; ++i) {
    const int32_t node = draft.number.at(draft.monomials[i]), row = draft.row.at({entries[i].out, entries[i].weight});
    by_row[{row, node}] += entries[i].value;
    by_node[{node, row}] += entries[i].value;
  }
  plan.of_row = collect(static_cast<int32_t>(plan.rows.size()), by_row);
  plan.of_node = collect(plan.n_nodes, by_node);
  return EQUIPOT_OK;
}

}  // namespace

// Values and tangents of all nodes, two kinds of cotangents of inner ones, two numbers per row, one per weight.
int64_t equipot::product_scratch_packs(const equipot_product& plan) {
  return 2 * plan.n_nodes + 2 * plan.n_inner + 2 * static_cast<int64_t>(plan.rows.size()) + plan.n_weights;
}

int equipot_product_create(const equipot_product_entry* entries, int64_t n_entries, int64_t n_in, int64_t n_out, int64_t n_weights,
                           equipot_product** plan) {
  constexpr int64_t most = 1 << 24;
  if (!plan || n_entries < 0 || (n_entries && !entries) || std::min({n_in, n_out, n_weights}) < 0) return EQUIPOT_BAD_ARGUMENT;
  if (std::max({n_in, n_out, n_weights, n_entries}) > most) return EQUIPOT_BAD_ARGUMENT;
  equipot_product* made = nullptr;
  int status = EQUIPOT_OUT_OF_MEMORY;
  try {
    made = new equipot_product{};
    made->n_in = n_in, made->n_out = n_out, made->n_weights = n_weights;
    status = fill(*made, entries, n_entries);
  } catch (const std::bad_alloc&) {
  }
  if (status != EQUIPOT_OK) {
    delete made;
    return status;
  }
  *plan = made;
  return EQUIPOT_OK;
}

void equipot_product_destroy(equipot_product* plan) { delete plan; }
