// Shared by the benchmarks: the best of many repetitions, since whatever else runs on the machine only slows us down.
#pragma once

#include <algorithm>
#include <ctime>

namespace kernels::bench {

// With one thread, processor time: then other processes hardly disturb the figures.
inline bool one_thread = false;

inline double now() {
  timespec t;
  clock_gettime(one_thread ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// Seconds of the fastest call of f, repeated for at least `seconds` and three times.
template <class F>
double best_seconds(double seconds, const F& f) {
  double best = 1e30;
  const double end = now() + seconds;
  for (int i = 0; i < 3 || now() < end; ++i) {
    const double start = now();
    f();
    best = std::min(best, now() - start);
  }
  return best;
}

// fp32 multiply-adds of one core as AVX2 can do them, in FLOP/s; 0 where the CPU has no AVX2 and FMA.
double fma_peak(double seconds);

}  // namespace kernels::bench
