// Hugging Face folders: what is written is read again; what is wrong is refused by name.
#include "kernels/files.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <bit>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "model_test_util.h"

namespace kernels {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const ModelConfig tiny{1, 2, 4, 5, 6, 7, 1e-5f};

ModelConfig tiny_llama(bool tied_head) {
  ModelConfig config{2, 2, 4, 5, 6, 7, 1e-5f, Family::llama, 1};
  config.tied_head = tied_head;
  config.rope_inverse_frequencies = {1.0f};
  return config;
}

class FilesTest : public testing::Test {
 protected:
  FilesTest() : folder_(fs::temp_directory_path() / ("gradminer_files_test_" + std::to_string(::getpid()))) {
    fs::create_directories(folder_);
  }
  ~FilesTest() override { fs::remove_all(folder_); }

  void write(const std::string& name, const std::string& content) {
    std::ofstream(folder_ / name, std::ios::binary) << content;
  }
  std::string read(const std::string& name) {
    std::ifstream in(folder_ / name, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  // What read_weights says about the folder as it is.
  std::string complaint(const ModelConfig& config = tiny) {
    try {
      read_weights(folder_, config);
    } catch (const std::runtime_error& error) {
      return error.what();
    }
    return "accepted";
  }

  fs::path folder_;
  std::vector<float> weights_ = test::some_weights(tiny, 1);
};

// A safetensors file of the given header text and data.
std::string safetensors(const std::string& header, const std::string& data = "") {
  std::string length(8, '\0');
  for (size_t i = 0; i < 8; ++i) length[i] = static_cast<char>(header.size() >> (8 * i));
  return length + header + data;
}

struct Tensor {
  std::string name, dtype;
  std::vector<size_t> shape;
  std::string data;
};

std::string safetensors(const std::vector<Tensor>& tensors) {
  json header;
  std::string data;
  for (const Tensor& t : tensors) {
    header[t.name] = {
        {"dtype", t.dtype}, {"shape", t.shape}, {"data_offsets", {data.size(), data.size() + t.data.size()}}};
    data += t.data;
  }
  return safetensors(header.dump(), data);
}

// The tensors of a model, as save_pretrained might have stored them.
std::vector<Tensor> tensors_of(const std::vector<float>& weights, const ModelConfig& config = tiny) {
  std::vector<Tensor> tensors;
  for (const Parameter& p : parameters_of(config))
    tensors.push_back(
        {p.name, "F32", p.shape, {reinterpret_cast<const char*>(weights.data() + p.offset), 4 * p.count}});
  return tensors;
}

void expect_contains(const std::string& message, const std::string& part) {
  EXPECT_NE(message.find(part), std::string::npos) << "says: " << message << "\nnot: " << part;
}

TEST_F(FilesTest, WrittenWeightsAreReadAgain) {
  write("config.json", to_json(tiny).dump());
  write_safetensors(folder_ / "model.safetensors", tiny, weights_.data());
  EXPECT_EQ(read_weights(folder_, read_model_config(folder_)), weights_);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 2);  // nothing temporary is left
}

TEST_F(FilesTest, AFileIsTheHeaderAndTheFlatVector) {
  write_safetensors(folder_ / "model.safetensors", tiny, weights_.data());
  const std::string header = safetensors_header(tiny);
  EXPECT_EQ(header.size() % 8, 0u);
  EXPECT_EQ(read("model.safetensors"),
            header + std::string(reinterpret_cast<const char*>(weights_.data()), 4 * weights_.size()));
  expect_contains(header, R"({"__metadata__":{"format":"pt"},"transformer.wte.weight":{"dtype":"F32","shape":[6,4],)"
                          R"("data_offsets":[0,96]})");
}

TEST_F(FilesTest, WritingIntoAMissingFolderIsRefused) {
  EXPECT_THROW(write_safetensors(folder_ / "nowhere" / "f", tiny, weights_.data()), std::runtime_error);
}

TEST_F(FilesTest, OnlyARegularFileIsReplaced) {
  fs::create_directory(folder_ / "there");
  fs::create_symlink("there", folder_ / "link");
  for (const char* name : {"there", "link"}) {
    EXPECT_THROW(write_safetensors(folder_ / name, tiny, weights_.data()), std::runtime_error) << name;
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 2);
  EXPECT_TRUE(fs::is_symlink(folder_ / "link"));
}

TEST_F(FilesTest, BareNamesMasksAndATiedHeadAreUnderstood) {
  std::vector<Tensor> tensors = tensors_of(weights_);
  for (Tensor& t : tensors) t.name = t.name.substr(std::strlen("transformer."));
  tensors.push_back({"h.0.attn.bias", "U8", {1, 1, 5, 5}, std::string(25, '\1')});
  tensors.push_back({"h.0.attn.masked_bias", "F32", {}, std::string(4, '\0')});
  tensors.push_back({"lm_head.weight", "F32", {6, 4}, tensors[0].data});
  write("model.safetensors", safetensors(tensors));
  EXPECT_EQ(read_weights(folder_, tiny), weights_);
}

TEST_F(FilesTest, AnotherHeadIsRefused) {
  std::vector<Tensor> tensors = tensors_of(weights_);
  tensors.push_back({"lm_head.weight", "F32", {6, 4}, tensors[0].data});
  tensors.back().data[17] ^= 1;
  write("model.safetensors", safetensors(tensors));
  expect_contains(complaint(), "tensor lm_head.weight: differs from the token embedding, but the config ties them");
}

TEST_F(FilesTest, LlamaIsWrittenAndReadAgain) {
  for (const bool tied : {true, false}) {
    const ModelConfig config = tiny_llama(tied);
    const std::vector<float> weights = test::some_weights(config, 2);
    write("config.json", to_json(config).dump());
    write_safetensors(folder_ / "model.safetensors", config, weights.data());
    EXPECT_EQ(read_weights(folder_, read_model_config(folder_)), weights);
    EXPECT_EQ(read("model.safetensors").find("lm_head.weight") == std::string::npos, tied);
  }
}

TEST_F(FilesTest, LlamaModelsBareNamesRotaryBuffersAndATiedHeadAreUnderstood) {
  const ModelConfig config = tiny_llama(true);
  const std::vector<float> weights = test::some_weights(config, 2);
  std::vector<Tensor> tensors = tensors_of(weights, config);
  for (Tensor& t : tensors) t.name = t.name.substr(std::strlen("model."));
  for (const char* layer : {"0", "1"})
    tensors.push_back(
        {std::string("layers.") + layer + ".self_attn.rotary_emb.inv_freq", "F32", {1}, std::string(4, '\1')});
  tensors.push_back({"lm_head.weight", "F32", {6, 4}, tensors[0].data});
  write("model.safetensors", safetensors(tensors));
  EXPECT_EQ(read_weights(folder_, config), weights);

  tensors.back().data[5] ^= 1;
  write("model.safetensors", safetensors(tensors));
  expect_contains(complaint(config), "tensor lm_head.weight: differs from the token embedding");
}

TEST_F(FilesTest, LlamasWrongTensorsAreNamed) {
  const ModelConfig config = tiny_llama(false);
  std::vector<Tensor> tensors = tensors_of(test::some_weights(config, 2), config);
  const Tensor head = tensors.back();
  tensors.pop_back();
  write("model.safetensors", safetensors(tensors));
  expect_contains(complaint(config), "tensor lm_head.weight is missing");

  tensors.push_back(head);
  tensors.push_back({"model.layers.0.self_attn.q_proj.bias", "F32", {4}, std::string(16, '\0')});
  write("model.safetensors", safetensors(tensors));
  expect_contains(complaint(config), "tensor model.layers.0.self_attn.q_proj.bias: not a tensor of this LLaMA");

  tensors.back().name = "rotary_emb.inv_freq";  // of no layer
  write("model.safetensors", safetensors(tensors));
  expect_contains(complaint(config), "tensor rotary_emb.inv_freq: not a tensor of this LLaMA");
}

TEST_F(FilesTest, HalfPrecisionIsRead) {
  const struct {
    uint16_t half;
    float value;
  } f16[] = {{0x3C00, 1.0f},     {0xC000, -2.0f}, {0x0001, 0x1p-24f}, {0x83FF, -1023 * 0x1p-24f},
             {0x7BFF, 65504.0f}, {0x8000, -0.0f}, {0x0400, 0x1p-14f}};
  std::vector<Tensor> tensors = tensors_of(weights_);
  tensors[0].dtype = "F16";
  tensors[0].data.assign(2 * 24, '\0');
  for (size_t i = 0; i < std::size(f16); ++i) std::memcpy(&tensors[0].data[2 * i], &f16[i].half, 2);
  tensors[1].dtype = "BF16";
  tensors[1].data.assign(2 * 20, '\0');
  const uint16_t bf16 = 0xBFC0;  // -1.5
  std::memcpy(tensors[1].data.data(), &bf16, 2);
  write("model.safetensors", safetensors(tensors));
  const std::vector<float> read = read_weights(folder_, tiny);
  for (size_t i = 0; i < std::size(f16); ++i)
    EXPECT_EQ(std::bit_cast<uint32_t>(read[i]), std::bit_cast<uint32_t>(f16[i].value)) << i;
  EXPECT_EQ(read[24], -1.5f);
  EXPECT_EQ(read[44], weights_[44]);
}

TEST_F(FilesTest, AShardedModelIsRead) {
  const std::vector<Tensor> all = tensors_of(weights_);
  write("a.safetensors", safetensors(std::vector<Tensor>(all.begin(), all.begin() + 5)));
  write("b.safetensors", safetensors(std::vector<Tensor>(all.begin() + 5, all.end())));
  json index;
  for (size_t i = 0; i < all.size(); ++i) index["weight_map"][all[i].name] = i < 5 ? "a.safetensors" : "b.safetensors";
  write("model.safetensors.index.json", index.dump());
  EXPECT_EQ(read_weights(folder_, tiny), weights_);

  for (const char* evil : {"../a.safetensors", "/etc/passwd", "sub/a.safetensors", "..", "a.bin"}) {
    json changed = index;
    changed["weight_map"][all[3].name] = evil;
    write("model.safetensors.index.json", changed.dump());
    expect_contains(complaint(), "is not the name of a .safetensors file in the same folder");
  }
  index["weight_map"][all[3].name] = "b.safetensors";
  write("model.safetensors.index.json", index.dump());
  expect_contains(complaint(), "tensor " + all[3].name + " is not in ");
}

TEST_F(FilesTest, WrongTensorsAreNamed) {
  const std::vector<Tensor> good = tensors_of(weights_);
  expect_contains(complaint(), "neither model.safetensors nor model.safetensors.index.json");

  std::vector<Tensor> tensors = good;
  tensors.erase(tensors.begin() + 4);
  write("model.safetensors", safetensors(tensors));
  expect_contains(complaint(), "tensor transformer.h.0.attn.c_attn.weight is missing");

  tensors = good;
  tensors.push_back({"transformer.h.1.ln_1.weight", "F32", {4}, std::string(16, '\0')});
  write("model.safetensors", safetensors(tensors));
  expect_contains(complaint(), "tensor transformer.h.1.ln_1.weight: not a tensor of this GPT-2");

  tensors = good;
  tensors[4].shape = {12, 4};
  write("model.safetensors", safetensors(tensors));
  expect_contains(complaint(), "tensor transformer.h.0.attn.c_attn.weight: shape [12,4]; the config says [4,12]");

  tensors = good;
  tensors[0] = {good[0].name, "F64", {6, 4}, std::string(192, '\0')};
  write("model.safetensors", safetensors(tensors));
  expect_contains(complaint(), "tensor transformer.wte.weight: dtype F64; supported: F32, F16, BF16");

  tensors = good;
  tensors.push_back({"wte.weight", "F32", {6, 4}, good[0].data});
  write("model.safetensors", safetensors(tensors));
  expect_contains(complaint(), "stored twice");
}

TEST_F(FilesTest, WhatIsNoJsonIsFoundByTheKeyBeforeIt) {
  for (const char* rope_theta : {"1e400", "x"}) {
    write("config.json", "{\"rope_scaling\": {\"factor\": 2},\n\"rope_theta\": " + std::string(rope_theta) + "}");
    try {
      read_model_config(folder_);
      ADD_FAILURE() << rope_theta << " accepted";
    } catch (const std::runtime_error& error) {
      expect_contains(error.what(), "config.json: not valid JSON after the key \"rope_theta\": ");
      expect_contains(error.what(), rope_theta);
    }
  }
}

TEST_F(FilesTest, HostileFilesAreRefused) {
  const std::string four(4, '\0');
  const auto one = [&](const std::string& fields) { return safetensors("{\"x\":{" + fields + "}}", four); };
  const struct {
    const char* what;
    std::string content, complaint;
  } files[] = {
      {"empty", "", "shorter than its 8-byte header length"},
      {"cut length", "1234567", "shorter than its 8-byte header length"},
      {"length beyond the file", std::string("\xff\xff\xff\xff\xff\xff\xff\x7f{}", 10), "or cut short"},
      {"length overflow", std::string("\xff\xff\xff\xff\xff\xff\xff\xff{}", 10), "or cut short"},
      {"not JSON", safetensors("{\"x\":"), "not valid JSON"},
      {"not UTF-8", safetensors("{\"\xff\":1}"), "not valid JSON"},
      {"not an object", safetensors("[]"), "not a JSON object"},
      {"deep", safetensors("{\"x\":" + std::string(100000, '[') + std::string(100000, ']') + "}"), "nested too deeply"},
      {"repeated key", safetensors("{\"x\":{},\"x\":{}}"), "appears twice"},
      {"tensor not an object", safetensors("{\"x\":5}"), "tensor x: needs dtype"},
      {"no shape", one(R"("dtype":"F32","data_offsets":[0,4])"), "needs dtype, shape and data_offsets"},
      {"dtype not a text", one(R"("dtype":7,"shape":[1],"data_offsets":[0,4])"), "unknown dtype 7"},
      {"unknown dtype", one(R"("dtype":"F33","shape":[1],"data_offsets":[0,4])"), "unknown dtype \"F33\""},
      {"negative shape", one(R"("dtype":"F32","shape":[-1],"data_offsets":[0,4])"), "not a list of whole numbers"},
      {"fraction", one(R"("dtype":"F32","shape":[1.5],"data_offsets":[0,4])"), "not a list of whole numbers"},
      {"one offset", one(R"("dtype":"F32","shape":[1],"data_offsets":[4])"), "not [begin, end]"},
      {"backward offsets", one(R"("dtype":"F32","shape":[1],"data_offsets":[4,0])"), "not [begin, end]"},
      {"size mismatch", one(R"("dtype":"F32","shape":[2],"data_offsets":[0,4])"), "do not fit dtype and shape"},
      {"shape overflow", one(R"("dtype":"F32","shape":[4294967296,4294967297],"data_offsets":[0,4])"), "do not fit"},
      {"byte overflow", one(R"("dtype":"F32","shape":[4611686018427387905],"data_offsets":[0,4])"), "do not fit"},
      {"beyond the data", one(R"("dtype":"F32","shape":[2],"data_offsets":[0,8])"), "the file holds 4"},
      {"gap", one(R"("dtype":"U8","shape":[2],"data_offsets":[2,4])"), "after a gap"},
      {"left over", one(R"("dtype":"U8","shape":[2],"data_offsets":[0,2])"), "need 2 bytes of data, the file holds 4"},
      {"overlap",
       safetensors(R"({"x":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},)"
                   R"("y":{"dtype":"U8","shape":[3],"data_offsets":[1,4]}})",
                   four),
       "tensor y: begins at byte 1, inside another tensor"},
      {"endless name", safetensors("{\"transformer.h." + std::string(1000000, '1') + "\":{}}"), "of 1000014 bytes"},
      {"a name that is no text", safetensors("{7:{}}"), "not valid JSON"},
  };
  for (const auto& file : files) {
    SCOPED_TRACE(file.what);
    write("model.safetensors", file.content);
    expect_contains(complaint(), file.complaint);
    expect_contains(complaint(), "model.safetensors");
  }
}

}  // namespace
}  // namespace kernels
