// `gradminer compute` as a process: what it prints, and every mistake.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <bit>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "kernels/files.h"
#include "kernels/training.h"
#include "protocol/digest.h"
#include "temporary_folder.h"

namespace {

namespace fs = std::filesystem;

struct Ended {
  int code = -1;
  std::string out, error;
};

class ComputeTest : public testing::Test {
 protected:
  ComputeTest() {
    fs::create_directory(model);
    fakes::write_file(model / "config.json", kernels::to_json(config).dump());
    weights.resize(kernels::parameter_count(config));
    kernels::initialise_weights(config, 3, weights.data());
    kernels::write_safetensors(model / "model.safetensors", config, weights.data());
    for (size_t i = 0; i < 40; ++i) tokens.push_back(static_cast<uint16_t>(i * 7 % config.vocabulary));
    write_tokens(tokens);
  }

  void write_tokens(const std::vector<uint16_t>& list) {
    fakes::write_file(folder.path / "tokens.bin", {reinterpret_cast<const char*>(list.data()), 2 * list.size()});
  }

  static std::string slurp(const fs::path& file) {
    std::ifstream in(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }

  Ended run(const std::string& arguments, const std::string& program = GRADMINER_BINARY) {
    const std::string out = folder.path / "out", error = folder.path / "error";
    const int status = std::system((program + " compute " + arguments + " >" + out + " 2>" + error).c_str());
    return {WEXITSTATUS(status), slurp(out), slurp(error)};
  }
  // Where the driver of the tests (tests/fakes/fake_cuda.h) has these cards.
  Ended run_with_cards(const std::string& arguments, const std::string& cards, const std::string& fail = "") {
    return run(arguments, "LD_LIBRARY_PATH=" FAKE_CUDA_SIMT_FOLDER " FAKE_CUDA_CARDS='" + cards +
                              "' FAKE_CUDA_FAIL=" + fail + " " GRADMINER_FOR_CARDS);
  }
  std::string paths() const {
    return "--model " + model.string() + " --tokens " + (folder.path / "tokens.bin").string() + " ";
  }

  fakes::TemporaryFolder folder;
  const fs::path model = folder.path / "model";
  const kernels::ModelConfig config{
      .layers = 1, .heads = 2, .channels = 16, .positions = 16, .vocabulary = 50, .inner = 64};
  std::vector<float> weights;
  std::vector<uint16_t> tokens;
};

TEST_F(ComputeTest, PrintsLossAndTheDigestOfTheFile) {
  const fs::path gradients = folder.path / "g.safetensors";
  const Ended ended = run(paths() + "--batch 3 --context 13 --json --gradients " + gradients.string());
  ASSERT_EQ(ended.code, 0) << ended.error;
  const nlohmann::json answer = nlohmann::json::parse(ended.out);
  EXPECT_EQ(answer.size(), 6u);
  EXPECT_GT(answer["planned_bytes"].get<uint64_t>(), 0u);
  EXPECT_EQ(answer["digest"], protocol::to_hex(protocol::sha256_of_file(gradients)));
  EXPECT_GT(answer["seconds"].get<double>(), 0);
  EXPECT_GT(answer["tokens_per_second"].get<double>(), 0);
  EXPECT_GT(answer["planned_bytes"].get<uint64_t>(), 0u);

  auto ops = kernels::make_reference_ops();
  kernels::Trainer trainer(config, 3, 13, *ops, kernels::Trainer::Purpose::gradient);
  std::vector<uint16_t> rows;  // row b is tokens b·T … b·T + T
  for (size_t b = 0; b < 3; ++b)
    rows.insert(rows.end(), tokens.begin() + 13 * static_cast<long>(b),
                tokens.begin() + 13 * static_cast<long>(b) + 14);
  std::vector<float> expected(weights.size());
  const float loss = trainer.gradient(weights, {3, 13, rows}, expected);
  EXPECT_EQ(answer["loss"].get<float>(), loss);
  EXPECT_EQ(std::strtof(answer["loss_hex"].get<std::string>().c_str(), nullptr), loss);
  EXPECT_TRUE(answer["loss_hex"].get<std::string>().starts_with("0x1."));
  const std::string file = slurp(gradients), header = kernels::safetensors_header(config);
  ASSERT_EQ(file.size(), header.size() + 4 * expected.size());
  EXPECT_EQ(file.substr(0, header.size()), header);
  EXPECT_EQ(std::memcmp(file.data() + header.size(), expected.data(), 4 * expected.size()), 0);

  const Ended unwritten = run(paths() + "--batch 3 --context 13 --json --threads 1");
  EXPECT_EQ(nlohmann::json::parse(unwritten.out)["digest"], answer["digest"]);
  const Ended human = run(paths() + "--batch 3 --context 13");
  EXPECT_NE(human.out.find(answer["digest"].get<std::string>()), std::string::npos) << human.out;
  EXPECT_NE(human.out.find(answer["loss_hex"].get<std::string>()), std::string::npos) << human.out;
}

TEST_F(ComputeTest, EveryProfileHasItsOwnGradient) {
  std::set<std::string> digests;
  for (const char* profile : {"exact-fp32", "exact-int8", "exact-int8-head"}) {
    const Ended ended = run(paths() + "--batch 3 --context 13 --json --profile " + profile);
    ASSERT_EQ(ended.code, 0) << ended.error;
    const auto digest = nlohmann::json::parse(ended.out)["digest"].get<std::string>();
    EXPECT_TRUE(digests.insert(digest).second) << profile;
    const Ended revision = run(paths() + "--batch 3 --context 13 --json --threads 1 --profile " + profile + "/1");
    EXPECT_EQ(nlohmann::json::parse(revision.out)["digest"], digest) << profile;
  }
}

TEST_F(ComputeTest, MistakesAreNamed) {
  struct Case {
    std::string arguments;
    int code;
    std::vector<std::string> named;
  };
  const std::string shape = "--batch 3 --context 13 ";
  const Case cases[] = {
      {paths() + "--batch 0 --context 13", 2, {"--batch 0"}},
      {paths() + "--batch 3 --context 0", 2, {"--context 0"}},
      {paths() + "--batch -3 --context 13", 2, {"--batch: must be a whole number from 0 to 2^64 - 1, not -3"}},
      {paths() + "--batch 3 --context 013", 2, {"--context: must be a whole number"}},
      {paths() + shape + "--threads x", 2, {"--threads: must be a whole number"}},
      {paths() + shape + "--memory-limit -5", 2, {"--memory-limit: must be a whole number"}},
      {paths() + "--context 13", 2, {"--batch"}},
      {paths() + shape + "--profile bf16", 2, {"bf16", "supported: exact-fp32, exact-int8, exact-int8-head, fast"}},
      {paths() + shape + "--profile fast", 3, {"fast needs a card with tensor cores", "7.5", "cpu has none"}},
      {paths() + shape + "--device gpu", 2, {"--device gpu", "supported: cpu, cuda, cuda:0"}},
      {paths() + shape + "--device cuda:x", 2, {"--device cuda:x", "supported: cpu, cuda, cuda:0"}},
      {paths() + "--batch 2 --context 17", 3, {"--context 17", "n_positions", "16"}},
      {paths() + "--batch 4 --context 13", 3, {"40 tokens", "= 53"}},
      {paths() + "--batch 18446744073709551615 --context 13", 3, {"40 tokens"}},
      {"--tokens " + (folder.path / "tokens.bin").string() + " --model /none " + shape, 3, {"/none"}},
      {"--model " + model.string() + " --tokens /none " + shape, 3, {"/none"}},
      {paths() + shape + "--gradients /none/g.safetensors", 8, {"/none"}},
      {"--tokens /none --model /none " + shape + "--gradients " + model.string(), 8, {model, "no regular file"}},
  };
  for (const Case& one : cases) {
    const Ended ended = run(one.arguments);
    EXPECT_EQ(ended.code, one.code) << one.arguments << "\n" << ended.error;
    for (const std::string& name : one.named) {
      EXPECT_NE(ended.error.find(name), std::string::npos) << one.arguments << "\n" << ended.error;
    }
  }
}

// A result that nobody gets is no success. `sample` writes token by token.
TEST_F(ComputeTest, OutputThatIsLostIsNamed) {
  const std::string commands[] = {"compute " + paths() + "--batch 3 --context 13 --json",
                                  "compute " + paths() + "--batch 3 --context 13",
                                  "sample --length 3 --model " + model.string(),
                                  "devices",
                                  "version",
                                  "--version",
                                  "--help"};
  for (const std::string& command : commands) {
    for (const char* lose : {" >/dev/full", " >&-"}) {
      const std::string error = folder.path / "error";
      const int status = std::system((GRADMINER_BINARY " " + command + " 2>" + error + lose).c_str());
      EXPECT_EQ(WEXITSTATUS(status), 8) << command << lose;
      EXPECT_NE(slurp(error).find("gradminer: cannot write to standard output"), std::string::npos)
          << command << lose << "\n"
          << slurp(error);
    }
  }
}

// Through links, the last of which leads to nothing yet.
TEST_F(ComputeTest, GradientsGoWhereALinkLeads) {
  const fs::path link = folder.path / "link", end = model / "g.safetensors";
  fs::create_symlink(folder.path / "second", link);
  fs::create_symlink("model/g.safetensors", folder.path / "second");
  for (const char* state : {"missing", "there"}) {
    const Ended ended = run(paths() + "--batch 3 --context 13 --json --gradients " + link.string());
    ASSERT_EQ(ended.code, 0) << state << ended.error;
    EXPECT_TRUE(fs::is_symlink(link)) << state;
    EXPECT_TRUE(fs::is_symlink(folder.path / "second")) << state;
    ASSERT_TRUE(fs::exists(end)) << state;
    EXPECT_EQ(nlohmann::json::parse(ended.out)["digest"], protocol::to_hex(protocol::sha256_of_file(end))) << state;
    fakes::write_file(end, "older");
  }
}

// Before anything is read or computed.
TEST_F(ComputeTest, GradientsReplaceRegularFilesOnly) {
  const fs::path pipe = folder.path / "pipe", link = folder.path / "link", loop = folder.path / "loop";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  fs::create_symlink(pipe, link);
  fs::create_symlink(loop, loop);
  for (const auto& [file, reason] : {std::pair{pipe, "is no regular file"},
                                     {link, "is no regular file"},
                                     {loop, "Too many levels of symbolic links"}}) {
    const Ended ended = run("--model /none --tokens /none --batch 3 --context 13 --gradients " + file.string());
    EXPECT_EQ(ended.code, 8) << file;
    EXPECT_NE(ended.error.find(file), std::string::npos) << ended.error;
    EXPECT_NE(ended.error.find(reason), std::string::npos) << ended.error;
  }
  EXPECT_TRUE(fs::is_fifo(pipe));
  EXPECT_TRUE(fs::is_symlink(link));
}

constexpr char large_and_small[] = "0000:0A:00.0,8.6,6000000000,Large;0000:02:00.0,6.1,34000000,Small";
constexpr char two_large[] = "0000:0A:00.0,8.6,6000000000,Second;0000:02:00.0,6.1,6000000000,First";

TEST_F(ComputeTest, ACardGivesTheDigestOfTheCpu) {
  const std::string shape = paths() + "--batch 2 --context 5 --profile exact-int8-head --json";
  const auto digest = nlohmann::json::parse(run(shape).out)["digest"];
  for (const char* device : {" --device cuda", " --device cuda:1"}) {
    const Ended ended = run_with_cards(shape + device, two_large);
    ASSERT_EQ(ended.code, 0) << ended.error;
    EXPECT_EQ(nlohmann::json::parse(ended.out)["digest"], digest) << device;
  }
}

// Of three blocks two at once, or one.
TEST_F(ComputeTest, ACardsMicroBatchIsWhatTheLimitAllows) {
  for (size_t i = tokens.size(); i < 129 * 16 + 1; ++i) tokens.push_back(static_cast<uint16_t>(i * i % 50));
  write_tokens(tokens);
  const std::string shape = paths() + "--batch 129 --context 16";  // 64 rows are a block
  const auto answer = [&](const std::string& limit) {
    const Ended ended = run_with_cards(shape + " --device cuda --json --memory-limit " + limit, two_large);
    EXPECT_EQ(ended.code, 0) << ended.error;
    return nlohmann::json::parse(ended.out);
  };
  const nlohmann::json free = answer("0");
  const std::string limit = std::to_string(free["planned_bytes"].get<uint64_t>() - 1);
  const nlohmann::json limited = answer(limit);
  EXPECT_LT(limited["planned_bytes"], free["planned_bytes"]);
  const std::string digest = nlohmann::json::parse(run(shape + " --json").out)["digest"];
  EXPECT_EQ(free["digest"], digest);
  EXPECT_EQ(limited["digest"], digest);
  const std::string words = run_with_cards(shape + " --device cuda", two_large).out;
  EXPECT_NE(words.find(" planned on the card, 2 blocks at once\n"), std::string::npos) << words;
}

// Another gradient than the exact one, near it and the same each time.
TEST_F(ComputeTest, ACardComputesFast) {
  const std::string shape = paths() + "--batch 2 --context 5 --device cuda:1 --profile ";
  const auto computed = [&](const std::string& profile) {
    const Ended ended = run_with_cards(shape + profile + " --json", two_large);
    EXPECT_EQ(ended.code, 0) << ended.error;
    return nlohmann::json::parse(ended.out);
  };
  const nlohmann::json exact = computed("exact-fp32"), fast = computed("fast");
  EXPECT_NE(fast["digest"], exact["digest"]);
  EXPECT_EQ(fast["digest"], computed("fast/1")["digest"]);
  EXPECT_NEAR(fast["loss"].get<double>(), exact["loss"].get<double>(), 0.01);
  const std::string words = run_with_cards(shape + "fast", two_large).out;
  EXPECT_NE(words.find(fast["digest"].get<std::string>() + " (another model of card gives another)\n"),
            std::string::npos)
      << words;
}

// What stands in its place is no library: as on a machine without it, whatever this one has. The one of the tests
// declines every product, because to try which multiplies faster takes long without a card.
TEST_F(ComputeTest, WhatAMissingCublasLtCostsIsSaidOnce) {
  for (const char* name : {"libcublasLt.so.11", "libcublasLt.so.12"})
    fakes::write_file(folder.path / name, "no library");
  const auto lines = [&](const std::string& profile, const std::string& libraries) {
    const Ended ended = run(paths() + "--batch 2 --context 5 --device cuda:1 --profile " + profile,
                            "FAKE_CUBLASLT_FAIL=cublasLtMatmulAlgoGetHeuristic,15,0 LD_LIBRARY_PATH=" + libraries +
                                ":" FAKE_CUDA_SIMT_FOLDER " FAKE_CUDA_CARDS='" + two_large + "' " GRADMINER_FOR_CARDS);
    EXPECT_EQ(ended.code, 0) << ended.error;
    std::vector<std::string> found;
    std::istringstream all(ended.error);
    for (std::string line; std::getline(all, line);) {
      if (line.find("cuBLASLt") != std::string::npos) found.push_back(line);
    }
    return found;
  };
  const std::vector<std::string> said = lines("fast", folder.path);
  ASSERT_EQ(said.size(), 1u);
  EXPECT_EQ(said[0].rfind("gradminer: no cuBLASLt (", 0), 0u) << said[0];
  EXPECT_TRUE(said[0].ends_with("); own kernels multiply, what that costs is not measured yet")) << said[0];
  EXPECT_TRUE(lines("exact-fp32", folder.path).empty()) << "which does not use it";
  EXPECT_TRUE(lines("fast", FAKE_CUBLASLT_FOLDER).empty());
}

// Where the kernels are compiled, those for 6.1 are without it.
TEST_F(ComputeTest, AnOldCardRefusesFast) {
  if (!CUDA_COMPILED) GTEST_SKIP() << "the code of the tests has kernels of any name";
  const Ended ended = run_with_cards(paths() + "--batch 2 --context 5 --profile fast --device cuda:0", two_large);
  EXPECT_EQ(ended.code, 3);
  EXPECT_NE(ended.error.find("needs a card with tensor cores, of compute capability 7.5 or later"), std::string::npos)
      << ended.error;
  EXPECT_NE(ended.error.find("cuda:0 has none"), std::string::npos) << ended.error;
}

TEST_F(ComputeTest, AFullCardComputesActivationsTwiceOrRefuses) {
  const std::string shape = paths() + "--batch 3 --context 13 --device cuda --json";
  kernels::ModelConfig deep = config;
  deep.layers = 4;
  weights.resize(kernels::parameter_count(deep));
  kernels::initialise_weights(deep, 3, weights.data());
  fakes::write_file(model / "config.json", kernels::to_json(deep).dump());
  kernels::write_safetensors(model / "model.safetensors", deep, weights.data());
  const auto planned = [&](const std::string& limit) {
    return nlohmann::json::parse(run_with_cards(shape + limit, "0000:01:00.0,8.6,6000000000,C").out)["planned_bytes"]
        .get<uint64_t>();
  };
  const uint64_t plain = planned(""), lean = planned(" --memory-limit " + std::to_string(plain - 1));
  EXPECT_LT(lean, plain);
  const auto with_memory = [&](uint64_t bytes) {
    return run_with_cards(shape, "0000:01:00.0,8.6," + std::to_string(bytes + (64 << 20)) + ",Card");
  };
  EXPECT_EQ(nlohmann::json::parse(with_memory(lean).out)["planned_bytes"], lean);
  const Ended refused = with_memory(lean - 1);
  EXPECT_EQ(refused.code, 3);
  EXPECT_NE(refused.error.find("of 0000:01:00.0's memory"), std::string::npos) << refused.error;
}

TEST_F(ComputeTest, ACardThatDoesNotComputeIsNamed) {
  const std::string shape = paths() + "--batch 2 --context 5 --device ";
  const auto expect = [&](const std::string& device, const std::string& fail, int code, const std::string& error) {
    const Ended ended = run_with_cards(shape + device, large_and_small, fail);
    EXPECT_EQ(ended.code, code) << device;
    EXPECT_NE(ended.error.find(error), std::string::npos) << ended.error;
  };
  expect("cuda:2", "", 3, "--device cuda:2: this machine has 2 cards");
  expect("cuda:0", "", 3, "of 0000:02:00.0's memory");
  expect("cuda:1", "cuStreamCreate,0,2", 3, "--device cuda:1: 0000:0A:00.0: cuStreamCreate: out of memory");
  expect("cuda:1", "cuLaunchKernel,0,719,5", 1, "0000:0A:00.0: ");
  expect("cuda:1", "cuLaunchKernel,0,719,5", 1, ": cuLaunchKernel: unspecified launch failure");
}

TEST_F(ComputeTest, CardsWithoutCodeAreNamed) {
  const Ended ended = run_with_cards(paths() + "--batch 2 --context 5 --device cuda",
                                     "0000:0A:00.0,5.2,4000000000,GTX 960;0000:02:00.0,5.0,2000000000,GTX 750");
  EXPECT_EQ(ended.code, 3);
  EXPECT_NE(ended.error.find("--device cuda: 0000:02:00.0: no code for compute capability 5.0; this program has "),
            std::string::npos)
      << ended.error;
  EXPECT_NE(ended.error.find("; 0000:0A:00.0: no code for compute capability 5.2; this program has "),
            std::string::npos)
      << ended.error;
}

TEST_F(ComputeTest, BadTokensAreNamed) {
  const std::string shape = paths() + "--batch 2 --context 5";
  tokens[7] = 50;
  write_tokens(tokens);
  Ended ended = run(shape);
  EXPECT_EQ(ended.code, 3);
  EXPECT_NE(ended.error.find("token number 7 (byte 14) is 50"), std::string::npos) << ended.error;
  fakes::write_file(folder.path / "tokens.bin", std::string(33, '\0'));
  ended = run(shape);
  EXPECT_EQ(ended.code, 3);
  EXPECT_NE(ended.error.find("odd number of bytes (33)"), std::string::npos) << ended.error;
  write_tokens({});
  EXPECT_NE(run(shape).error.find("has 0 tokens"), std::string::npos);
}

TEST_F(ComputeTest, DamagedModelsAreNamed) {
  const std::string shape = paths() + "--batch 2 --context 5";
  fs::resize_file(model / "model.safetensors", 1000);
  Ended ended = run(shape);
  EXPECT_EQ(ended.code, 3);
  EXPECT_NE(ended.error.find("model.safetensors"), std::string::npos) << ended.error;
  fs::remove(model / "config.json");
  ended = run(shape);
  EXPECT_EQ(ended.code, 3);
  EXPECT_NE(ended.error.find("config.json"), std::string::npos) << ended.error;
}

TEST_F(ComputeTest, ANumericFailureNamesTheTensor) {
  weights[0] = 3e38f;
  kernels::write_safetensors(model / "model.safetensors", config, weights.data());
  const Ended ended = run(paths() + "--batch 3 --context 13");
  EXPECT_EQ(ended.code, 9);
  EXPECT_TRUE(ended.error.find("loss") != std::string::npos || ended.error.find("transformer.") != std::string::npos)
      << ended.error;
}

}  // namespace
