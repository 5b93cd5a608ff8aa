#include "model_text.h"

#include <cstddef>

namespace equipot {

namespace {

constexpr const char *symbols[] = {
    "",   "H",  "He", "Li", "Be", "B",  "C",  "N",  "O",  "F",  "Ne", "Na", "Mg", "Al", "Si", "P",  "S",  "Cl", "Ar", "K",
    "Ca", "Sc", "Ti", "V",  "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Ga", "Ge", "As", "Se", "Br", "Kr", "Rb", "Sr", "Y",
    "Zr", "Nb", "Mo", "Tc", "Ru", "Rh", "Pd", "Ag", "Cd", "In", "Sn", "Sb", "Te", "I",  "Xe", "Cs", "Ba", "La", "Ce", "Pr",
    "Nd", "Pm", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er", "Tm", "Yb", "Lu", "Hf", "Ta", "W",  "Re", "Os", "Ir", "Pt", "Au",
    "Hg", "Tl", "Pb", "Bi", "Po", "At", "Rn", "Fr", "Ra", "Ac", "Th", "Pa", "U",  "Np", "Pu", "Am", "Cm", "Bk", "Cf", "Es",
    "Fm", "Md", "No", "Lr", "Rf", "Db", "Sg", "Bh", "Hs", "Mt", "Ds", "Rg", "Cn", "Nh", "Fl", "Mc", "Lv", "Ts", "Og"};
constexpr int n_symbols = sizeof symbols / sizeof *symbols;

// The end of the string that begins at `i`: the index of its closing quote.
std::size_t end_of_string(const std::string &json, std::size_t i) {
  for (++i; i < json.size() && json[i] != '"'; ++i)
    if (json[i] == '\\') ++i;
  return i;
}

}  // namespace

int atomic_number(const std::string &symbol) {
  for (int z = 1; z < n_symbols; ++z)
    if (symbol == symbols[z]) return z;
  return 0;
}

const char *symbol(int atomic_number) { return atomic_number > 0 && atomic_number < n_symbols ? symbols[atomic_number] : "?"; }

std::string text_of_key(const std::string &json, const std::string &key) {
  int depth = 0;
  for (std::size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (c == '{' || c == '[') ++depth;
    if (c == '}' || c == ']') --depth;
    if (c != '"') continue;
    const std::size_t end = end_of_string(json, i);
    const bool found = depth == 1 && end < json.size() && json.compare(i + 1, end - i - 1, key) == 0;
    i = end;
    if (!found) continue;
    const std::size_t colon = json.find_first_not_of(" \t\r\n", end + 1);
    if (colon == std::string::npos || json[colon] != ':') continue;  // a value that reads like the key
    const std::size_t value = json.find_first_not_of(" \t\r\n", colon + 1);
    if (value == std::string::npos || json[value] != '"') return "";
    const std::size_t last = end_of_string(json, value);
    return last < json.size() ? json.substr(value + 1, last - value - 1) : "";
  }
  return "";
}

}  // namespace equipot
