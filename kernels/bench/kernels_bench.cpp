// kernels_bench: matrix products at training shapes and element-wise operations, each beside what bounds it. Prints
// Markdown tables; docs/measurements/cpu-engine.md holds a run.
#include <dlfcn.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "bench/adamw_step.h"
#include "bench/measure.h"
#include "bench/products.h"
#include "cpu/thread_pool.h"
#include "kernels/ops.h"

namespace kernels::bench {
namespace {

constexpr int turns = 5;

using Values = std::vector<float>;

Values random_values(size_t count) {
  static std::mt19937 random(1);
  std::uniform_real_distribution<float> uniform(-1, 1);
  Values x(count);
  for (float& v : x) v = uniform(random);
  return x;
}

// OpenBLAS, where it is installed.
class OpenBlas {
 public:
  explicit OpenBlas(size_t threads) {
    // Before it is loaded: threads that it starts then wait busily, and would count as ours.
    setenv("OPENBLAS_NUM_THREADS", std::to_string(threads).c_str(), 1);
    void* library = dlopen("libopenblas.so.0", RTLD_NOW);
    if (!library) return;
    sgemm_ = reinterpret_cast<Sgemm>(dlsym(library, "cblas_sgemm"));
    if (const auto set = reinterpret_cast<void (*)(int)>(dlsym(library, "openblas_set_num_threads"))) {
      set(static_cast<int>(threads));
    }
    if (const auto config = reinterpret_cast<const char* (*)()>(dlsym(library, "openblas_get_config"))) {
      std::printf("%s\n\n", config());
    }
  }

  bool found() const { return sgemm_ != nullptr; }

  void matmul(const Matmul& op) const {
    constexpr int row_major = 101, plain = 111, transposed = 112;
    const bool a_plain = op.a_col == 1, b_plain = op.b_col == 1;
    sgemm_(row_major, a_plain ? plain : transposed, b_plain ? plain : transposed, static_cast<int>(op.m),
           static_cast<int>(op.n), static_cast<int>(op.k), 1, op.a, static_cast<int>(a_plain ? op.a_row : op.a_col),
           op.b, static_cast<int>(b_plain ? op.b_row : op.b_col), op.accumulate ? 1.0f : 0.0f, op.c,
           static_cast<int>(op.ldc));
  }

 private:
  using Sgemm = void (*)(int, int, int, int, int, int, float, const float*, int, const float*, int, float, float*, int);
  Sgemm sgemm_ = nullptr;
};

// The ratio to OpenBLAS.
double matmul_row(const char* name, Form form, size_t tokens, size_t in, size_t out, Ops& ops, const OpenBlas& blas,
                  double peak, double seconds) {
  Matmul op = product_of(form, tokens, in, out);
  const Values a = random_values(elements_of_a(op)), b = random_values(elements_of_b(op));
  Values c(elements_of_c(op));
  op.a = a.data(), op.b = b.data(), op.c = c.data();
  std::vector<double> our_times, their_times, ratios;
  for (int turn = 0; turn < turns; ++turn) {  // in turns, so that both meet the same disturbances
    our_times.push_back(seconds_of(seconds / (2 * turns), [&] { ops.matmul(op); }));
    their_times.push_back(blas.found() ? seconds_of(seconds / (2 * turns), [&] { blas.matmul(op); }) : 0);
    ratios.push_back(their_times.back() / our_times.back());
  }
  const double ours = median(our_times), theirs = median(their_times), ratio = median(ratios);
  const double flops = 2.0 * static_cast<double>(op.m) * static_cast<double>(op.n) * static_cast<double>(op.k);
  const char* forms[] = {"forward", "dX", "dW"};
  std::printf("| %s %s | %zu x %zu x %zu | %.1f | %.0f%% |", name, forms[static_cast<int>(form)], op.m, op.n, op.k,
              flops / ours * 1e-9, 100 * flops / ours / peak);
  blas.found() ? std::printf(" %.1f | %.2f |\n", flops / theirs * 1e-9, ratio) : std::printf(" - | - |\n");
  std::fflush(stdout);
  return ratio;
}

void matmul_table(Ops& ops, size_t threads, double seconds, const std::string& only) {
  const OpenBlas blas(threads);
  const double peak = fma_peak(simd_from_environment(), seconds) * static_cast<double>(threads);
  std::printf("FMA peak of %zu threads on this path, measured: %.1f GFLOP/s\n\n", threads, peak * 1e-9);
  std::printf(
      "| product | m x n x k | GFLOP/s | of peak | OpenBLAS GFLOP/s | ours / OpenBLAS |\n|---|---|---|---|---|---|\n");
  struct Layer {
    const char* name;
    size_t tokens, in, out;
  };
  const Layer layers[] = {
      {"4x128 c_attn", 1024, 128, 384},     {"4x128 c_proj", 1024, 128, 128},      {"4x128 c_fc", 1024, 128, 512},
      {"4x128 mlp.c_proj", 1024, 512, 128}, {"6x384 c_attn", 2048, 384, 1152},     {"6x384 c_proj", 2048, 384, 384},
      {"6x384 c_fc", 2048, 384, 1536},      {"6x384 mlp.c_proj", 2048, 1536, 384}, {"124M c_attn", 512, 768, 2304},
      {"124M c_proj", 512, 768, 768},       {"124M c_fc", 512, 768, 3072},         {"124M mlp.c_proj", 512, 3072, 768},
      {"124M head", 512, 768, 50257},       {"124M c_attn", 1024, 768, 2304},      {"124M c_proj", 1024, 768, 768},
      {"124M c_fc", 1024, 768, 3072},       {"124M mlp.c_proj", 1024, 3072, 768},  {"124M head", 1024, 768, 50257}};
  std::vector<double> ratios;
  for (const Layer& l : layers) {
    if (std::string(l.name).find(only) == std::string::npos) continue;
    for (const Form form : {Form::forward, Form::input_gradient, Form::weight_gradient}) {
      ratios.push_back(matmul_row(l.name, form, l.tokens, l.in, l.out, ops, blas, peak, seconds));
    }
  }
  if (!blas.found() || ratios.empty()) return;
  double logarithms = 0;
  for (const double ratio : ratios) logarithms += std::log(ratio);
  std::printf("\nOurs / OpenBLAS: geometric mean %.2f, lowest %.2f\n",
              std::exp(logarithms / static_cast<double>(ratios.size())),
              *std::min_element(ratios.begin(), ratios.end()));
}

void memory_row(const char* name, size_t bytes, double copy, double seconds, const std::function<void()>& f) {
  const double rate = static_cast<double>(bytes) / seconds_of(seconds, f);
  std::printf("| %s | %.1f | %.2f |\n", name, rate * 1e-9, rate / copy);
  std::fflush(stdout);
}

// Bytes are those that must be read and written, once each.
void memory_table(Ops& ops, double seconds) {
  constexpr size_t rows = 4096, channels = 1024, count = rows * channels, array = count * sizeof(float);
  Values x = random_values(count), y = x, dx(count), dy = random_values(count), v(count, 1.0f), w(channels, 1.0f),
         b = w, mean(rows), rstd(rows);
  std::vector<uint16_t> targets(rows);
  const double copy = 2.0 * array / seconds_of(seconds, [&] { std::memcpy(y.data(), x.data(), array); });
  std::printf("\nCopy of %zu MB by one thread, measured: %.1f GB/s\n\n", array >> 20, copy * 1e-9);
  std::printf("| operation | GB/s | of one thread's copy |\n|---|---|---|\n");
  memory_row("add", 3 * array, copy, seconds, [&] { ops.add(x.data(), y.data(), count); });
  memory_row("layer norm forward", 2 * array, copy, seconds, [&] {
    ops.layer_norm_forward({.rows = rows,
                            .channels = channels,
                            .epsilon = 1e-5f,
                            .x = x.data(),
                            .weight = w.data(),
                            .bias = b.data(),
                            .y = y.data(),
                            .mean = mean.data(),
                            .rstd = rstd.data()});
  });
  memory_row("layer norm backward", 3 * array, copy, seconds, [&] {
    ops.layer_norm_backward({.rows = rows,
                             .channels = channels,
                             .dy = dy.data(),
                             .x = x.data(),
                             .weight = w.data(),
                             .mean = mean.data(),
                             .rstd = rstd.data(),
                             .dx = dx.data(),
                             .dweight = w.data(),
                             .dbias = b.data()});
  });
  memory_row("GELU forward", 2 * array, copy, seconds,
             [&] { ops.gelu_forward({.count = count, .x = x.data(), .y = y.data()}); });
  memory_row("GELU backward", 3 * array, copy, seconds,
             [&] { ops.gelu_backward({.count = count, .x = x.data(), .dy = dy.data(), .dx = dx.data()}); });
  memory_row("bias backward", array, copy, seconds,
             [&] { ops.bias_backward({.rows = rows, .channels = channels, .dy = dy.data(), .dbias = b.data()}); });
  memory_row("cross-entropy with gradient", 2 * array, copy, seconds, [&] {
    ops.cross_entropy({.rows = rows,
                       .vocabulary = channels,
                       .row = channels,
                       .logits = y.data(),
                       .targets = targets.data(),
                       .losses = mean.data(),
                       .scale_gradient = 1});
  });
  const TensorEnd tensor{.end = count, .decays = true};
  memory_row("AdamW", 7 * array, copy, seconds,
             [&] { ops.adamw(adamw_step(tensor, dy.data(), x.data(), dx.data(), v.data())); });
}

}  // namespace
}  // namespace kernels::bench

int main(int argc, char** argv) {
  using namespace kernels;
  CLI::App app("Speed of the CPU engine");
  size_t threads = available_cores();
  double seconds = 1;
  std::vector<std::string> tables = {"matmul", "memory"};
  app.add_option("--threads", threads, "threads (default: one for each core that this process may use)");
  app.add_option("--seconds", seconds, "seconds for each line");
  app.add_option("--tables", tables, "matmul, memory")->delimiter(',');
  std::string only;
  app.add_option("--only", only, "products whose name holds this");
  CLI11_PARSE(app, argc, argv);
  bench::one_thread = threads == 1;
  const auto ops = make_cpu_ops(threads, simd_from_environment());
  std::printf("Path: %s, threads: %zu, %s\n\n", ops->name().c_str(), threads,
              bench::one_thread ? "processor time" : "wall time");
  for (const std::string& table : tables) {
    if (table == "matmul") bench::matmul_table(*ops, threads, seconds, only);
    if (table == "memory") bench::memory_table(*ops, seconds);
  }
}
