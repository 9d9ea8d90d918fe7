#include "files/safetensors.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <system_error>

#include "files/json_file.h"

namespace kernels {

using nlohmann::json;

static_assert(std::endian::native == std::endian::little, "safetensors data is little-endian");

namespace {

constexpr uint64_t largest_header = 100'000'000;  // the format's own limit
constexpr size_t longest_name = 1000;

// Bytes per element; 0 for a dtype that the format does not have.
size_t element_bytes(const std::string& dtype) {
  static const std::map<std::string, size_t> bytes = {
      {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"U16", 2}, {"I16", 2}, {"F16", 2},
      {"BF16", 2}, {"U32", 4}, {"I32", 4}, {"F32", 4},     {"U64", 8},     {"I64", 8}, {"F64", 8}};
  const auto found = bytes.find(dtype);
  return found == bytes.end() ? 0 : found->second;
}

float from_bf16(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }

float from_f16(uint16_t bits) {
  const uint32_t sign = uint32_t{bits & 0x8000u} << 16, exponent = (bits >> 10) & 0x1Fu, fraction = bits & 0x3FFu;
  if (exponent == 0) return std::copysign(static_cast<float>(fraction) * 0x1p-24f, std::bit_cast<float>(sign));
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7F800000u | (fraction << 13));
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (fraction << 13));
}

std::optional<std::vector<uint64_t>> whole_numbers(const json& list) {
  if (!list.is_array()) return std::nullopt;
  std::vector<uint64_t> numbers;
  for (const json& entry : list) {
    if (!entry.is_number_unsigned()) return std::nullopt;
    numbers.push_back(entry.get<uint64_t>());
  }
  return numbers;
}

// Throws std::runtime_error with the reason alone.
StoredTensor parse_tensor(const json& entry) {
  const auto need = [](bool ok, const std::string& reason) {
    if (!ok) throw std::runtime_error(reason);
  };
  need(entry.is_object() && entry.contains("dtype") && entry.contains("shape") && entry.contains("data_offsets"),
       "needs dtype, shape and data_offsets");
  need(entry["dtype"].is_string() && element_bytes(entry["dtype"]) != 0, "unknown dtype " + shown(entry["dtype"]));
  const auto shape = whole_numbers(entry["shape"]), offsets = whole_numbers(entry["data_offsets"]);
  need(shape.has_value(), "shape " + shown(entry["shape"]) + " is not a list of whole numbers");
  need(offsets && offsets->size() == 2 && (*offsets)[0] <= (*offsets)[1],
       "data_offsets " + shown(entry["data_offsets"]) + " are not [begin, end]");

  StoredTensor tensor{entry["dtype"], {shape->begin(), shape->end()}, 1, (*offsets)[0], (*offsets)[1]};
  bool overflow = false;
  for (uint64_t extent : *shape) overflow |= __builtin_mul_overflow(tensor.count, extent, &tensor.count);
  size_t bytes = 0;
  overflow |= __builtin_mul_overflow(tensor.count, element_bytes(tensor.dtype), &bytes);
  need(!overflow && bytes == tensor.end - tensor.begin,
       "data_offsets " + shown(entry["data_offsets"]) + " do not fit dtype and shape " + shown(entry["shape"]));
  return tensor;
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::filesystem::path& file)
    : name_(file.string()), in_(file, std::ios::binary) {
  if (!in_) fail(std::string("cannot be opened: ") + std::generic_category().message(errno));
  read_header();
}

void SafetensorsFile::fail(const std::string& reason) const { throw std::runtime_error(name_ + ": " + reason); }

void SafetensorsFile::read_header() {
  const std::streamoff size = in_.seekg(0, std::ios::end).tellg();
  uint64_t length = 0;
  if (size < 8 || !in_.seekg(0).read(reinterpret_cast<char*>(&length), sizeof(length)))
    fail("not a safetensors file: shorter than its 8-byte header length");
  const uint64_t after_length = static_cast<uint64_t>(size) - sizeof(length);
  if (length > largest_header || length > after_length)
    fail("not a safetensors file, or cut short: a header of " + std::to_string(length) + " bytes in a file of " +
         std::to_string(size));
  std::string text(length, '\0');
  if (!in_.read(text.data(), static_cast<std::streamsize>(length))) fail("the header cannot be read");
  data_begin_ = sizeof(length) + length;

  json header;
  try {
    header = parse_json(text);
  } catch (const std::runtime_error& error) {
    fail(std::string("header: ") + error.what());
  }
  if (!header.is_object()) fail("header: not a JSON object");
  for (const auto& [key, entry] : header.items()) {
    if (key == "__metadata__") continue;
    if (key.size() > longest_name) fail("header: a tensor name of " + std::to_string(key.size()) + " bytes");
    try {
      tensors_.emplace(key, parse_tensor(entry));
    } catch (const std::runtime_error& error) {
      fail("tensor " + key + ": " + error.what());
    }
  }
  check_layout(after_length - length);
}

void SafetensorsFile::check_layout(uint64_t data_bytes) const {
  std::vector<const std::pair<const std::string, StoredTensor>*> order;
  for (const auto& entry : tensors_) order.push_back(&entry);
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
  });
  uint64_t next = 0;
  for (const auto* entry : order) {
    const auto& [tensor, stored] = *entry;
    if (stored.begin != next)
      fail("tensor " + tensor + ": begins at byte " + std::to_string(stored.begin) +
           (stored.begin < next ? ", inside another tensor" : ", after a gap") + "; expected " + std::to_string(next));
    next = stored.end;
  }
  if (next != data_bytes)
    fail("the tensors need " + std::to_string(next) + " bytes of data, the file holds " + std::to_string(data_bytes));
}

void SafetensorsFile::read(const std::string& tensor, const Piece& piece) {
  constexpr size_t piece_elements = 1 << 16;
  const StoredTensor& stored = tensors_.at(tensor);
  const bool full = stored.dtype == "F32", brain = stored.dtype == "BF16";
  if (!full && !brain && stored.dtype != "F16")
    fail("tensor " + tensor + ": dtype " + stored.dtype + "; supported: F32, F16, BF16");
  std::vector<float> values(std::min(piece_elements, stored.count));
  std::vector<uint16_t> halves(full ? 0 : values.size());
  in_.clear();
  in_.seekg(static_cast<std::streamoff>(data_begin_ + stored.begin));
  for (size_t first = 0; first < stored.count; first += piece_elements) {
    const size_t count = std::min(piece_elements, stored.count - first);
    if (full) {
      in_.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(4 * count));
    } else {
      in_.read(reinterpret_cast<char*>(halves.data()), static_cast<std::streamsize>(2 * count));
      std::transform(halves.begin(), halves.begin() + static_cast<std::ptrdiff_t>(count), values.begin(),
                     brain ? from_bf16 : from_f16);
    }
    if (!in_) fail("tensor " + tensor + ": cannot be read");
    piece(first, {values.data(), count});
  }
}

}  // namespace kernels
