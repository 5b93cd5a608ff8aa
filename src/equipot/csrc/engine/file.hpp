// The container of an exported model: a JSON text and named tensors. Nothing is read outside the bytes given; what does not fit is refused.
#pragma once

#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace eq {

// What is wrong with a file, in one line.
struct BadFile : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Tensor {
  bool integers;
  std::vector<int64_t> shape;
  const unsigned char* bytes;  // into the file's
  int64_t size;                // numbers

  double real(int64_t i) const;
  int64_t integer(int64_t i) const;
};

class File {
 public:
  // The bytes must outlive the object. Raises BadFile.
  File(const unsigned char* bytes, int64_t size);

  const std::string& header() const { return header_; }
  // Models in the file, at least 1; of an ensemble, the tensors of model i have `members.<i>.` in front of their names, which member(i) leaves out.
  int64_t n_members() const;
  File member(int64_t i) const;
  bool has(const std::string& name) const { return tensors_.count(prefix_ + name) != 0; }
  // The tensor of that name, type and number of dimensions; sizes of -1 in `shape` fit any. Raises BadFile.
  const Tensor& get(const std::string& name, bool integers, const std::vector<int64_t>& shape) const;
  std::vector<double> reals(const std::string& name, const std::vector<int64_t>& shape) const;  // all finite, or BadFile
  std::vector<int64_t> integers(const std::string& name, const std::vector<int64_t>& shape) const;

 private:
  std::string header_, prefix_;
  std::map<std::string, Tensor> tensors_;
};

// All bytes of the file at `path`; raises BadFile.
std::vector<unsigned char> read_bytes(const std::string& path);

}  // namespace eq
