// int8_loss_study: the same small language models trained on real text by the same batches in each profile; prints the
// validation losses after equal steps as a Markdown table. Every figure is exact: the same on every machine.
#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <numbers>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/training.h"
#include "study/along_tokens.h"

namespace kernels::study {
namespace {

struct Shape {
  std::string name;
  ModelConfig config;
  size_t batch, context, steps;
  double rate;  // the highest learning rate
  size_t validation_tokens;
  bool both_rules;  // for weight gradients
};

const std::vector<Shape>& shapes() {
  // layers, heads, channels, positions, vocabulary, inner
  static const std::vector<Shape> all = {{"4x128", {4, 4, 128, 64, 256, 512}, 12, 64, 500, 2e-3, 32'768, true},
                                         {"6x384", {6, 6, 384, 128, 256, 1536}, 4, 128, 100, 1e-3, 16'384, false}};
  return all;
}

struct Variant {
  const char* name;
  Profile profile;
  bool along_tokens;
};
constexpr Variant variants[] = {{"exact-fp32", Profile::exact_fp32, false},
                                {"exact-int8", Profile::exact_int8, false},
                                {"exact-int8, both along tokens", Profile::exact_int8, true},
                                {"exact-int8-head", Profile::exact_int8_head, false}};

// The King James text of Debian's bible-kjv, or a file.
std::vector<uint16_t> read_text(const std::string& file) {
  std::string text;
  if (!file.empty()) {
    std::ifstream in(file, std::ios::binary);
    text.assign(std::istreambuf_iterator<char>(in), {});
  } else if (FILE* pipe = popen("bible -f gen1:1-rev22:21", "r")) {
    char piece[4096];
    while (const size_t got = std::fread(piece, 1, sizeof piece, pipe)) text.append(piece, got);
    pclose(pipe);
  }
  if (text.size() < 100'000)
    throw std::runtime_error("no text: install bible-kjv, or give --text FILE of 100 kB or more");
  return {reinterpret_cast<const unsigned char*>(text.data()),
          reinterpret_cast<const unsigned char*>(text.data()) + text.size()};
}

// Linear warmup, then a cosine down to a tenth.
LocalAdamW schedule(const Shape& shape) {
  const double beta1 = 0.9, beta2 = 0.95, steps = static_cast<double>(shape.steps), warmup = steps / 10;
  LocalAdamW adamw{static_cast<float>(beta1),
                   static_cast<float>(1 - beta1),
                   static_cast<float>(beta2),
                   static_cast<float>(1 - beta2),
                   1e-8f,
                   1.0f,
                   {}};
  for (size_t i = 0; i < shape.steps; ++i) {
    const double step = static_cast<double>(i) + 1, done = std::max(0.0, (step - warmup) / (steps - warmup));
    const double rate = shape.rate * std::min(1.0, step / warmup) * (0.55 + 0.45 * std::cos(std::numbers::pi * done));
    adamw.steps.push_back({static_cast<float>(1 - rate * 0.1), static_cast<float>(rate / (1 - std::pow(beta1, step))),
                           static_cast<float>(1 / std::sqrt(1 - std::pow(beta2, step)))});
  }
  return adamw;
}

class Study {
 public:
  explicit Study(std::vector<uint16_t> text) : text_(std::move(text)), training_(text_.size() / 10 * 9) {}

  // The validation loss after training with the seed's weights and batches.
  double loss_of(const Shape& shape, const Variant& variant, uint64_t seed) {
    std::unique_ptr<Ops> ops = make_cpu_ops(1, simd_from_environment());
    if (variant.along_tokens) ops = std::make_unique<AlongTokens>(std::move(ops));
    std::vector<float> weights(parameter_count(shape.config)), difference(weights.size());
    initialise_weights(shape.config, seed, weights.data());
    {
      Trainer trainer(shape.config, shape.batch, shape.context, *ops,
                      {Trainer::Purpose::local_steps, false, variant.profile});
      std::mt19937_64 random(seed);
      const auto next = [&](size_t) { return random_rows(random, shape); };
      trainer.local_steps(weights, schedule(shape), next, difference);
    }
    for (size_t i = 0; i < weights.size(); ++i) weights[i] -= difference[i];
    return validation_loss(shape, variant.profile, weights, *ops);
  }

 private:
  TokenBatch random_rows(std::mt19937_64& random, const Shape& shape) {
    batch_.clear();
    for (size_t row = 0; row < shape.batch; ++row) add_row(random() % (training_ - shape.context), shape.context);
    return {shape.batch, shape.context, batch_};
  }

  double validation_loss(const Shape& shape, Profile profile, const std::vector<float>& weights, Ops& ops) {
    const size_t rows = shape.validation_tokens / shape.context,
                 apart = (text_.size() - training_ - shape.context - 1) / rows;
    batch_.clear();
    for (size_t row = 0; row < rows; ++row) add_row(training_ + row * apart, shape.context);
    Trainer trainer(shape.config, rows, shape.context, ops, {Trainer::Purpose::evaluate, false, profile});
    double sum = 0;
    const std::vector<float> blocks = trainer.evaluate(weights, {rows, shape.context, batch_});
    for (const float loss : blocks) sum += static_cast<double>(loss);
    return sum / static_cast<double>(blocks.size());
  }

  void add_row(size_t at, size_t context) {
    batch_.insert(batch_.end(), text_.begin() + static_cast<std::ptrdiff_t>(at),
                  text_.begin() + static_cast<std::ptrdiff_t>(at + context + 1));
  }

  const std::vector<uint16_t> text_;
  const size_t training_;  // tokens from the first on; the rest is for validation
  std::vector<uint16_t> batch_;
};

void print_table(Study& study, const Shape& shape) {
  std::printf("\n%s: batch %zu x %zu, %zu steps, learning rate up to %g\n\n", shape.name.c_str(), shape.batch,
              shape.context, shape.steps, shape.rate);
  std::printf("| profile | seed 1 | seed 2 | seed 3 | mean | against exact-fp32 |\n|---|---|---|---|---|---|\n");
  double fp32 = 0;
  for (const Variant& variant : variants) {
    if (variant.along_tokens && !shape.both_rules) continue;
    std::printf("| %s |", variant.name);
    double mean = 0;
    for (const uint64_t seed : {1, 2, 3}) {
      const double loss = study.loss_of(shape, variant, seed);
      mean += loss / 3;
      std::printf(" %.4f |", loss);
      std::fflush(stdout);
    }
    if (variant.profile == Profile::exact_fp32) fp32 = mean;
    std::printf(" %.4f | %+.2f%% |\n", mean, 100 * (mean / fp32 - 1));
    std::fflush(stdout);
  }
}

}  // namespace
}  // namespace kernels::study

int main(int argc, char** argv) {
  using namespace kernels::study;
  CLI::App app("What the int8 profiles cost in loss");
  std::string text;
  std::vector<std::string> names = {"4x128", "6x384"};
  app.add_option("--text", text, "text to learn (default: what `bible -f gen1:1-rev22:21` prints)");
  app.add_option("--shapes", names, "4x128, 6x384")->delimiter(',');
  CLI11_PARSE(app, argc, argv);
  try {
    Study study(read_text(text));
    for (const Shape& shape : shapes()) {
      if (std::find(names.begin(), names.end(), shape.name) != names.end()) print_table(study, shape);
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "int8_loss_study: %s\n", error.what());
    return 1;
  }
}
