// step_bench: whole training steps (forward, backward, AdamW). Either a table of where the time of a step goes, or, for
// compare_pytorch.py, as many steps as each line of the input asks for.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <thread>
#include <vector>

#include "bench/measure.h"
#include "bench/steps.h"
#include "bench/timed_ops.h"
#include "cpu/thread_pool.h"

namespace kernels::bench {
namespace {

// Bytes read and written in a second by all threads together copying arrays that no cache holds.
double copy_rate(size_t threads, double seconds) {
  constexpr size_t bytes = size_t{128} << 20;
  std::vector<char> from(bytes, 1), to(bytes, 2);
  ThreadPool pool(threads);
  const double time = seconds_of(seconds, [&] {
    pool.run(threads, [&](size_t thread) {
      const size_t begin = bytes * thread / threads, end = bytes * (thread + 1) / threads;
      std::memcpy(to.data() + begin, from.data() + begin, end - begin);
    });
  });
  return 2.0 * bytes / time;
}

void print_table(Ops& ops, const Shape& shape, size_t threads, size_t count) {
  const double peak = fma_peak(simd_from_environment(), 0.5) * static_cast<double>(threads);
  const double vnni = vnni_peak(simd_from_environment(), 0.5) * static_cast<double>(threads);
  const double copy = copy_rate(threads, 0.5);
  TimedOps timed(ops, shape.vocabulary);
  Steps steps(shape, timed);
  const double total = steps.run(1, count, [&] { timed.times.clear(); });
  const double n = static_cast<double>(count);
  std::printf("%s: %zu layers of %zu, %zu x %zu tokens, vocabulary %zu; path %s, %zu threads, %s\n",
              name_of(shape.profile).c_str(), shape.layers, shape.channels, shape.batch, shape.context,
              shape.vocabulary, ops.name().c_str(), threads, one_thread ? "processor time" : "wall time");
  std::printf(
      "FMA peak %.0f GFLOP/s, VNNI peak %.0f GOP/s, of a thread times threads; copy %.1f GB/s by these threads\n",
      peak * 1e-9, vnni * 1e-9, copy * 1e-9);
  std::printf("One step: %.2f ms, %.0f tokens/s, %.1f GFLOP/s, %.0f%% of the FMA peak\n\n", 1e3 * total / n,
              n * static_cast<double>(steps.tokens()) / total, n * steps.flops() / total * 1e-9,
              100 * n * steps.flops() / total / peak);
  std::printf("| operation | ms | share | rate | floor, ms | floor / time |\n|---|---|---|---|---|---|\n");
  double known = 0, floors = 0;
  for (const auto& [name, t] : timed.times) {
    const double products = t.int8 ? vnni : peak;
    const double floor = std::max(products > 0 ? t.flops / products : 0, t.bytes / copy);
    known += t.seconds, floors += floor;
    std::printf("| %s | %.2f | %.1f%% | %.1f %s | %.2f | %.0f%% |\n", name.c_str(), 1e3 * t.seconds / n,
                100 * t.seconds / total, 1e-9 * std::max(t.flops, t.bytes) / t.seconds,
                t.int8        ? "GOP/s"
                : t.flops > 0 ? "GFLOP/s"
                              : "GB/s",
                1e3 * floor / n, 100 * floor / t.seconds);
  }
  std::printf("| outside of operations | %.2f | %.1f%% | | | |\n", 1e3 * (total - known) / n,
              100 * (total - known) / total);
  std::printf("| all | %.2f | 100%% | | %.2f | %.0f%% |\n", 1e3 * total / n, 1e3 * floors / n, 100 * floors / total);
}

}  // namespace
}  // namespace kernels::bench

int main(int argc, char** argv) {
  using namespace kernels;
  CLI::App app("Speed of whole training steps");
  size_t threads = available_cores(), count = 0;
  bench::Shape shape;
  app.add_option("--threads", threads, "threads (default: one for each core that this process may use)");
  bench::add_shape_options(app, shape);
  app.add_option("--table", count,
                 "print where the time of a step goes, over this many; else answer the input's lines");
  CLI11_PARSE(app, argc, argv);
  bench::one_thread = threads == 1;
  const auto ops = make_cpu_ops(threads, simd_from_environment());
  if (count > 0) {
    bench::print_table(*ops, shape, threads, count);
    return 0;
  }
  bench::answer_lines(shape, *ops);
}
