// card_bench: what measure_card.py runs on an NVIDIA card. It carries its kernels and opens the driver by itself, so it
// needs nothing but the driver.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <regex>

#include "bench/card_operations.h"
#include "bench/fast_check.h"
#include "bench/nccl_check.h"
#include "bench/steps.h"
#include "cuda_driver/code.h"
#include "cuda_driver/cublaslt_products.h"
#include "cuda_driver/device.h"
#include "cuda_host/cuda_ops.h"
#include "cuda_host/half_precision.h"
#include "golden.h"
#include "kernels/cuda_cards.h"

namespace kernels::bench {
namespace {

// Code for the driver to compile: the files *.compute_NN.ptx of a folder, all of one capability.
class PtxFolder {
 public:
  explicit PtxFolder(const std::filesystem::path& folder) {
    static const std::regex pattern(R"(\w+\.(compute_(\d+)(\d))\.ptx)");
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      const std::string file = entry.path().filename().string();
      std::smatch parts;
      if (!std::regex_match(file, parts, pattern)) continue;
      if (!name_.empty() && name_ != parts[1]) throw std::runtime_error(folder.string() + " has code of two kinds");
      name_ = parts[1];
      capability_ = {std::stoi(parts[2]), std::stoi(parts[3])};
      std::ifstream in(entry.path(), std::ios::binary);
      texts_.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
    }
    if (texts_.empty()) throw std::runtime_error(folder.string() + " has no *.compute_NN.ptx");
    for (const std::string& text : texts_) images_.push_back(std::as_bytes(std::span(text.c_str(), text.size() + 1)));
  }
  cuda::Code code() const { return {name_, capability_, cuda::Kind::ptx, images_}; }

 private:
  std::string name_;
  cuda::ComputeCapability capability_;
  std::vector<std::string> texts_;
  std::vector<std::span<const std::byte>> images_;
};

CudaCard card_number(size_t number) {
  const std::vector<CudaCard> cards = cuda_cards().cards;
  if (number >= cards.size()) throw CudaError("there are " + std::to_string(cards.size()) + " cards");
  if (!cards[number].problem.empty()) throw CudaError(cards[number].problem);
  return cards[number];
}

// On the card whatever it takes goes through it. That it fails ends the program.
std::unique_ptr<cuda::CublasLtProducts> open_cublaslt(const cuda::Driver& driver, cuda::Device& device) {
  return std::make_unique<cuda::CublasLtProducts>(std::make_unique<const cuda::CublasLt>(driver.version), device,
                                                  [](const std::string& line) { throw CudaError(line); });
}

// Where it is told to, each launch by itself.
class BenchOps final : public cuda::CudaOps {
 public:
  BenchOps(bool one_by_one, cuda::Device& device, cuda::Int8Arithmetic int8, HalfPrecision half,
           cuda::ByLibrary by_library)
      : CudaOps(device, int8, half, by_library), one_by_one_(one_by_one) {}

  std::unique_ptr<RepeatedOperations> repeated() override { return one_by_one_ ? nullptr : CudaOps::repeated(); }

 private:
  const bool one_by_one_;
};

// A card with the program's own code, or with that of a folder.
struct Card {
  Card(size_t number, const std::string& ptx_folder, bool by_cublaslt, bool one_by_one)
      : card(card_number(number)),
        ptx(ptx_folder.empty() ? std::nullopt : std::make_optional<PtxFolder>(ptx_folder)),
        of_folder(ptx ? std::make_optional(ptx->code()) : std::nullopt),
        device(cuda::open_device(driver, card, codes(), cuda_timeout)),
        int8(cuda::choose_int8_arithmetic(device)),
        half(cuda::choose_half_precision(device)),
        cublaslt(by_cublaslt ? open_cublaslt(driver, device) : nullptr),
        ops(one_by_one, device, int8, half, {cublaslt.get(), cublaslt.get()}) {}

  // Returns as soon as all is done that was launched: it asks without a pause, as others' benchmarks do, where the
  // Device sleeps for up to a 64th of what it has waited.
  void wait() {
    device.by_library([driver = driver, bus_id = card.bus_id](cuda::DeviceCalls& calls) {
      cuda::Event end = nullptr;
      driver.run(bus_id, driver.cuEventCreate, &end, cuda::event_disable_timing);
      calls.launch_by([&](cuda::Stream stream) { driver.run(bus_id, driver.cuEventRecord, end, stream); });
      cuda::Result state = cuda::result::not_ready;
      while (state == cuda::result::not_ready) state = driver.cuEventQuery(end);
      if (state != cuda::result::success) driver.fail(bus_id, driver.cuEventQuery.name, state);
      driver.run(bus_id, driver.cuEventDestroy, end);
      return true;
    });
  }

  std::vector<const cuda::Code*> codes() const {
    return of_folder ? std::vector{&*of_folder} : cuda::codes_for({card.major, card.minor});
  }

  const CudaCard card;
  const std::optional<PtxFolder> ptx;
  const std::optional<cuda::Code> of_folder;
  const cuda::Driver driver;
  cuda::Device device;
  const cuda::Int8Arithmetic int8;
  const HalfPrecision half;
  const std::unique_ptr<cuda::CublasLtProducts> cublaslt;
  BenchOps ops;
};

// Of fp32 multiply-adds, with the clock at which the driver's numbers give it.
std::string peak_of(const Card& card) {
  if (card.card.peak_flops == 0) return "fp32 peak not known";
  cuda::Ordinal device = 0;
  int kilohertz = 0;
  card.driver.run(card.card.bus_id, card.driver.cuDeviceGet, &device, card.card.ordinal);
  card.driver.run(card.card.bus_id, card.driver.cuDeviceGetAttribute, &kilohertz, cuda::attribute::clock_kilohertz,
                  device);
  std::array<char, 80> text{};
  std::snprintf(text.data(), text.size(), "fp32 peak %.4g TFLOP/s at %.4g MHz", card.card.peak_flops * 1e-12,
                kilohertz * 1e-3);
  return text.data();
}

void print_card(const Card& card) {
  std::printf("%s, %s, compute capability %d.%d, %.1f GB, %s; driver for CUDA %s; code %s, int8 by %s%s%s%s\n",
              card.card.name.c_str(), card.card.bus_id.c_str(), card.card.major, card.card.minor,
              static_cast<double>(card.card.memory_bytes) * 1e-9, peak_of(card).c_str(),
              cuda::version_text(card.driver.version).c_str(), std::string(card.device.code().name).c_str(),
              cuda::name_of(card.int8), card.half == HalfPrecision::none ? "" : ", fast in ", cuda::name_of(card.half),
              card.cublaslt == nullptr ? "" : ("; cuBLASLt " + cublaslt_version()).c_str());
}

// Whether every unit of the file, or those named, gives its digest.
bool print_golden(Card& card, const std::string& file, const std::vector<std::string>& only) {
  size_t right = 0, all = 0;
  for (const test::GoldenUnit& unit : test::read_golden(file)) {
    if (!only.empty() && std::ranges::count(only, unit.name) == 0) continue;
    ++all;
    if (test::golden_digest(unit, card.ops) == unit.sha256) {
      ++right;
    } else {
      std::printf("%s gives another digest\n", unit.name.c_str());
    }
  }
  std::printf("%zu of %zu units give their digest\n", right, all);
  return right == all && all > 0;
}

// Whether `fast` is right on the card, if it is there.
bool print_fast(Card& card) {
  if (card.half == HalfPrecision::none) return true;
  bool right = true;
  for (const FastCheck& check : check_fast(card.ops)) {
    right = right && check.right;
    std::printf("fast in %s, %s: %.2e from exact-fp32, %s%s\n", cuda::name_of(card.half), check.model.c_str(),
                check.distance, check.repeats ? "repeats itself" : "DOES NOT REPEAT ITSELF",
                check.right ? "" : ": WRONG");
  }
  return right;
}

int run(int argc, char** argv) {
  CLI::App app("Measures one NVIDIA card");
  app.require_subcommand(1);
  size_t number = 0;
  std::string ptx;
  bool by_cublaslt = false, one_by_one = false;
  app.add_option("--card", number, "its number, as `gradminer devices` counts (default 0)");
  app.add_option("--ptx", ptx, "a folder with *.compute_NN.ptx, which the driver compiles, instead of the own code");
  app.add_flag("--cublaslt", by_cublaslt, "products of int8 and fast by cuBLASLt where it takes them");
  app.add_flag("--one-by-one", one_by_one, "each launch by itself, not a micro-batch's as one graph");

  std::string file;
  std::vector<std::string> only;
  CLI::App* golden = app.add_subcommand("golden", "Compares the digests of golden units, and checks `fast`");
  golden->add_option("file", file, "tests/kernels/golden.txt")->required();
  golden->add_option("--only", only, "these units")->delimiter(',');
  CLI::App* nccl = app.add_subcommand("nccl", "Whether what the card sends itself by NCCL, at one rank, arrives");
  app.add_subcommand("info", "Names the card and what it runs");
  CLI::App* operations = app.add_subcommand("operations", "Seconds of each operation that a line of the input names");
  Shape shape;
  CLI::App* steps = app.add_subcommand("steps", "Seconds of as many training steps as each line of the input says");
  add_shape_options(*steps, shape);
  CLI11_PARSE(app, argc, argv);

  if (nccl->parsed()) {
    std::printf("NCCL %s, at one rank: all bits arrive\n", check_nccl(card_number(number)).c_str());
    return 0;
  }
  Card card(number, ptx, by_cublaslt, one_by_one);
  if (golden->parsed()) {
    const bool exact = print_golden(card, file, only);
    return print_fast(card) && exact ? 0 : 1;
  }
  if (steps->parsed()) {
    answer_lines(shape, card.ops);
  } else if (operations->parsed()) {
    const auto wait = [&card] { card.wait(); };
    for (std::string line; std::getline(std::cin, line);)
      std::cout << seconds_of_line(card.ops, wait, line) << std::endl;
  } else {
    print_card(card);
  }
  return 0;
}

}  // namespace
}  // namespace kernels::bench

int main(int argc, char** argv) {
  int exit_code = 1;
  try {
    exit_code = kernels::bench::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "card_bench: %s\n", error.what());
  }
  if (!kernels::threads_left_behind()) return exit_code;
  std::fflush(stdout);
  std::_Exit(exit_code);
}
