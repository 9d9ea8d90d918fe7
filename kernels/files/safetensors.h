// One .safetensors file, read: https://huggingface.co/docs/safetensors (8-byte length, JSON header, data).
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace kernels {

struct StoredTensor {
  std::string dtype;
  std::vector<size_t> shape;
  size_t count = 0;             // elements
  uint64_t begin = 0, end = 0;  // bytes after the header
};

// Errors of every member are std::runtime_error naming the file, and the tensor where there is one.
class SafetensorsFile {
 public:
  // Reads and checks the header: every byte of the data belongs to exactly one tensor.
  explicit SafetensorsFile(const std::filesystem::path& file);

  const std::string& name() const { return name_; }
  const std::map<std::string, StoredTensor>& tensors() const { return tensors_; }

  // Hands a tensor of dtype F32, F16 or BF16 over as floats, in pieces in order.
  using Piece = std::function<void(size_t first, std::span<const float> values)>;
  void read(const std::string& tensor, const Piece& piece);

 private:
  [[noreturn]] void fail(const std::string& reason) const;
  void read_header();
  void check_layout(uint64_t data_bytes) const;

  std::string name_;
  std::ifstream in_;
  uint64_t data_begin_ = 0;
  std::map<std::string, StoredTensor> tensors_;
};

}  // namespace kernels
