// Names: chemical symbols, and the text of a key in a model's header.
#pragma once

#include <string>

namespace equipot {

// 0 if it is none.
int atomic_number(const std::string &symbol);
const char *symbol(int atomic_number);
// The text of `key` at the top of a JSON object, escapes as they stand; empty if there is none.
std::string text_of_key(const std::string &json, const std::string &key);

}  // namespace equipot
