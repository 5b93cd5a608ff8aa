#include "file.hpp"

#include <cmath>
#include <cstdio>
#include <cstring>

#include "equipot_engine.h"

namespace eq {
namespace {

constexpr int64_t head_bytes = 40, record_bytes = 128, name_bytes = 64;
constexpr uint64_t most = uint64_t{1} << 40;
constexpr int64_t most_members = 1000;

uint64_t little(const unsigned char* p, int n) {
  uint64_t x = 0;
  for (int i = n - 1; i >= 0; --i) x = x << 8 | p[i];
  return x;
}

uint32_t crc32(const unsigned char* p, int64_t n) {
  static const auto table = [] {
    std::vector<uint32_t> t(256);
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t c = i;
      for (int k = 0; k < 8; ++k) c = c & 1 ? 0xEDB88320u ^ (c >> 1) : c >> 1;
      t[i] = c;
    }
    return t;
  }();
  uint32_t c = 0xFFFFFFFFu;
  for (int64_t i = 0; i < n; ++i) c = table[(c ^ p[i]) & 0xFF] ^ (c >> 8);
  return c ^ 0xFFFFFFFFu;
}

int64_t padded(int64_t n) { return (n + 63) / 64 * 64; }

std::string name_of(const unsigned char* record) {
  const void* end = std::memchr(record, 0, name_bytes);
  if (!end || end == record) throw BadFile("damaged: a tensor without a name");
  return std::string(reinterpret_cast<const char*>(record), static_cast<const unsigned char*>(end) - record);
}

Tensor tensor_of(const unsigned char* record, const unsigned char* file, int64_t file_size, const std::string& name) {
  const uint64_t type = little(record + 64, 4), n_dims = little(record + 68, 4);
  const uint64_t offset = little(record + 104, 8), bytes = little(record + 112, 8);
  if (type > 1 || n_dims > 4) throw BadFile("damaged: tensor " + name + " has no known type or too many dimensions");
  uint64_t n = 1;
  Tensor tensor{type == 1, {}, nullptr, 0};
  for (uint64_t d = 0; d < n_dims; ++d) {
    const uint64_t length = little(record + 72 + 8 * d, 8);
    if (length > most || (length && n > most / length)) throw BadFile("damaged: tensor " + name + " is too large");
    n *= length;
    tensor.shape.push_back(static_cast<int64_t>(length));
  }
  if (bytes != 8 * n || offset > static_cast<uint64_t>(file_size) || bytes > static_cast<uint64_t>(file_size) - offset || offset % 8)
    throw BadFile("damaged: tensor " + name + " does not lie within the file");
  tensor.bytes = file + offset;
  tensor.size = static_cast<int64_t>(n);
  return tensor;
}

}  // namespace

double Tensor::real(int64_t i) const {
  const uint64_t bits = little(bytes + 8 * i, 8);
  double x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

int64_t Tensor::integer(int64_t i) const { return static_cast<int64_t>(little(bytes + 8 * i, 8)); }

File::File(const unsigned char* bytes, int64_t size) {
  if (size < head_bytes || std::memcmp(bytes, "EQUIPOTN", 8) != 0)
    throw BadFile("not an exported model (.eqn): make one with equipot export MODEL --to lammps -o FILE.eqn");
  const uint64_t version = little(bytes + 8, 4), n_tensors = little(bytes + 12, 4), text = little(bytes + 16, 8);
  if (version < 1 || version > EQ_FILE_VERSION)
    throw BadFile("version " + std::to_string(version) + " of the format, this engine reads up to " + std::to_string(EQ_FILE_VERSION) +
                  ": export the model anew, or update equipot");
  if (little(bytes + 24, 8) != static_cast<uint64_t>(size)) throw BadFile("damaged or cut short");
  if (little(bytes + 32, 8) != crc32(bytes + head_bytes, size - head_bytes)) throw BadFile("damaged: its checksum is not that of its content");
  if (text > static_cast<uint64_t>(size - head_bytes)) throw BadFile("damaged: the header does not lie within the file");
  header_.assign(reinterpret_cast<const char*>(bytes) + head_bytes, text);
  const int64_t first = padded(head_bytes + static_cast<int64_t>(text));
  if (first > size || static_cast<int64_t>(n_tensors) > (size - first) / record_bytes)
    throw BadFile("damaged: the list of tensors does not lie within the file");
  for (int64_t i = 0; i < static_cast<int64_t>(n_tensors); ++i) {
    const unsigned char* record = bytes + first + i * record_bytes;
    const std::string name = name_of(record);
    if (!tensors_.emplace(name, tensor_of(record, bytes, size, name)).second) throw BadFile("damaged: tensor " + name + " occurs twice");
  }
}

const Tensor& File::get(const std::string& name, bool integers, const std::vector<int64_t>& shape) const {
  const auto found = tensors_.find(prefix_ + name);
  if (found == tensors_.end()) throw BadFile("the model lacks the tensor " + prefix_ + name);
  const Tensor& tensor = found->second;
  bool fits = tensor.integers == integers && tensor.shape.size() == shape.size();
  for (size_t d = 0; fits && d < shape.size(); ++d) fits = shape[d] < 0 || tensor.shape[d] == shape[d];
  if (!fits) throw BadFile("tensor " + name + " has another type or shape than the rest of the model asks for");
  return tensor;
}

int64_t File::n_members() const {
  if (!has("ensemble")) return 1;
  const int64_t n = integers("ensemble", {1})[0];
  if (n < 2 || n > most_members) throw BadFile("damaged: an ensemble of " + std::to_string(n) + " models");
  return n;
}

File File::member(int64_t i) const {
  File file(*this);
  if (has("ensemble")) file.prefix_ = "members." + std::to_string(i) + ".";
  return file;
}

std::vector<double> File::reals(const std::string& name, const std::vector<int64_t>& shape) const {
  const Tensor& tensor = get(name, false, shape);
  std::vector<double> values(tensor.size);
  for (int64_t i = 0; i < tensor.size; ++i) {
    values[i] = tensor.real(i);
    if (!std::isfinite(values[i])) throw BadFile("tensor " + name + " holds values that are not finite");
  }
  return values;
}

std::vector<int64_t> File::integers(const std::string& name, const std::vector<int64_t>& shape) const {
  const Tensor& tensor = get(name, true, shape);
  std::vector<int64_t> values(tensor.size);
  for (int64_t i = 0; i < tensor.size; ++i) values[i] = tensor.integer(i);
  return values;
}

std::vector<unsigned char> read_bytes(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (!file) throw BadFile("no such model file, or not readable");
  std::vector<unsigned char> content;
  unsigned char part[1 << 16];
  for (size_t n; (n = std::fread(part, 1, sizeof part, file)) > 0;) content.insert(content.end(), part, part + n);
  const bool failed = std::ferror(file) != 0;
  std::fclose(file);
  if (failed) throw BadFile("cannot be read");
  return content;
}

}  // namespace eq
