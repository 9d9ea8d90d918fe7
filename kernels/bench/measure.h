// Shared by the benchmarks: times of repeated calls on a machine that others may disturb.
#pragma once

#include <algorithm>
#include <ctime>
#include <vector>

#include "kernels/ops.h"

namespace kernels::bench {

// With one thread, processor time: then other processes hardly disturb the figures.
inline bool one_thread = false;

inline double now() {
  timespec t;
  clock_gettime(one_thread ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// Seconds of a call of f, repeated for at least `seconds`: the mean in processor time (a single call that was
// interrupted may be credited with too little), the fastest call in wall time (which others only ever lengthen).
template <class F>
double seconds_of(double seconds, const F& f) {
  double best = 1e30, calls = 0;
  const double start = now(), end = start + seconds;
  for (double t = start; t < end || calls == 0; ++calls) {
    const double before = t;
    f();
    t = now();
    best = std::min(best, t - before);
  }
  return one_thread ? (now() - start) / calls : best;
}

inline double median(std::vector<double> x) {
  std::sort(x.begin(), x.end());
  return x[x.size() / 2];
}

// fp32 multiply-adds that one core can do in registers on a path, in FLOP/s; 0 where it has no hardware for them.
double fma_peak(Simd simd, double seconds);
// Likewise products of bytes that are multiplied and added (VNNI), two operations each; 0 on paths without VNNI.
double vnni_peak(Simd simd, double seconds);

}  // namespace kernels::bench
