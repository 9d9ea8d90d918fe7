// All weights of a Hugging Face folder into one flat vector in canonical order.
#include <algorithm>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string_view>

#include "files/json_file.h"
#include "files/safetensors.h"
#include "kernels/files.h"
#include "kernels/huge_pages.h"

namespace kernels {

using nlohmann::json;
namespace fs = std::filesystem;

namespace {

struct Source {
  std::shared_ptr<SafetensorsFile> file;
  std::string name;  // as stored there
};
// From canonical name to where the tensor is stored.
using Sources = std::map<std::string, Source>;

struct FamilyNames {
  std::string prefix;  // GPT2Model or LlamaModel alone saves its tensors without it
  std::string layers;
  std::vector<std::string_view> buffers;  // of a layer: old transformers versions stored what is no parameter
};

const FamilyNames& names_of(Family family) {
  static const FamilyNames gpt2{"transformer.", "transformer.h.", {".attn.bias", ".attn.masked_bias"}};
  static const FamilyNames llama{"model.", "model.layers.", {".self_attn.rotary_emb.inv_freq"}};
  return family == Family::llama ? llama : gpt2;
}

std::string canonical_name(const FamilyNames& names, const std::string& stored) {
  return stored.starts_with(names.prefix) || stored.starts_with("lm_head.") ? stored : names.prefix + stored;
}

bool is_buffer(const FamilyNames& names, std::string_view canonical) {
  if (!canonical.starts_with(names.layers)) return false;
  canonical.remove_prefix(names.layers.size());
  const size_t number = std::min(canonical.find_first_not_of("0123456789"), canonical.size());
  canonical.remove_prefix(number);
  return number > 0 && std::ranges::find(names.buffers, canonical) != names.buffers.end();
}

void add_source(Sources& sources, const FamilyNames& names, const std::shared_ptr<SafetensorsFile>& file,
                const std::string& stored) {
  const std::string canonical = canonical_name(names, stored);
  if (is_buffer(names, canonical)) return;
  if (!sources.emplace(canonical, Source{file, stored}).second)
    throw std::runtime_error(file->name() + ": tensor " + stored + " is stored twice");
}

Sources sources_of_index(const FamilyNames& names, const fs::path& folder, const fs::path& index) {
  const json content = read_json_file(index);
  const auto fail = [&index](const std::string& reason) { throw std::runtime_error(index.string() + ": " + reason); };
  if (!content.is_object() || !content.contains("weight_map") || !content["weight_map"].is_object())
    fail("weight_map is missing or not an object");
  std::map<std::string, std::shared_ptr<SafetensorsFile>> files;
  Sources sources;
  for (const auto& [tensor, shard] : content["weight_map"].items()) {
    // A shard lies in the folder itself; the index may come from a stranger.
    if (!shard.is_string() || fs::path(shard.get<std::string>()).filename() != shard.get<std::string>() ||
        !shard.get<std::string>().ends_with(".safetensors"))
      fail("tensor " + tensor + ": " + shown(shard) + " is not the name of a .safetensors file in the same folder");
    auto& file = files[shard];
    if (!file) file = std::make_shared<SafetensorsFile>(folder / shard.get<std::string>());
    if (!file->tensors().contains(tensor)) fail("tensor " + tensor + " is not in " + file->name());
    add_source(sources, names, file, tensor);
  }
  return sources;
}

Sources sources_of(const FamilyNames& names, const fs::path& folder) {
  const fs::path single = folder / "model.safetensors", index = folder / "model.safetensors.index.json";
  if (!fs::exists(single) && fs::exists(index)) return sources_of_index(names, folder, index);
  if (!fs::exists(single))
    throw std::runtime_error(folder.string() +
                             ": neither model.safetensors nor model.safetensors.index.json is there; save the model "
                             "with save_pretrained(folder, safe_serialization=True)");
  const auto file = std::make_shared<SafetensorsFile>(single);
  Sources sources;
  for (const auto& [tensor, stored] : file->tensors()) add_source(sources, names, file, tensor);
  return sources;
}

[[noreturn]] void refuse(const Source& source, const std::string& reason) {
  throw std::runtime_error(source.file->name() + ": tensor " + source.name + ": " + reason);
}

void check_shape(const Source& source, const std::vector<size_t>& expected) {
  const std::vector<size_t>& shape = source.file->tensors().at(source.name).shape;
  if (shape != expected) refuse(source, "shape " + json(shape).dump() + "; the config says " + json(expected).dump());
}

// A stored head is a copy of the token embedding where the two are tied.
void check_tied_head(const Source& head, const Parameter& embedding, const float* weights) {
  check_shape(head, embedding.shape);
  head.file->read(head.name, [&](size_t first, std::span<const float> values) {
    if (std::memcmp(values.data(), weights + embedding.offset + first, values.size_bytes()) != 0)
      refuse(head, "differs from the token embedding, but the config ties them");
  });
}

}  // namespace

std::vector<float> read_weights(const fs::path& folder, const ModelConfig& config) {
  Sources sources = sources_of(names_of(config.family), folder);
  const std::vector<Parameter> parameters = parameters_of(config);
  // Names and shapes first: the config alone must not make us allocate what the files do not hold.
  for (const Parameter& parameter : parameters) {
    const auto source = sources.find(parameter.name);
    if (source == sources.end())
      throw std::runtime_error(folder.string() + ": tensor " + parameter.name + " is missing");
    check_shape(source->second, parameter.shape);
  }
  std::vector<float> weights;
  resize_in_huge_pages(weights, parameter_count(config));
  for (const Parameter& parameter : parameters) {
    const Source source = sources.extract(parameter.name).mapped();
    source.file->read(source.name, [&](size_t first, std::span<const float> values) {
      std::copy(values.begin(), values.end(), weights.data() + parameter.offset + first);
    });
  }
  if (const auto head = sources.extract("lm_head.weight"))
    check_tied_head(head.mapped(), parameters.front(), weights.data());
  if (!sources.empty())
    refuse(sources.begin()->second, std::string("not a tensor of this ") +
                                        (config.family == Family::llama ? "LLaMA" : "GPT-2") +
                                        " (the config says otherwise)");
  return weights;
}

}  // namespace kernels
