// Products of int8 by AVX-512 VNNI. Only for translation units of AVX-512, called where the CPU has VNNI.
#pragma once

#include "cpu/int8_dot.h"
#include "cpu/vector_avx512.h"

namespace kernels {

// Four terms in a unit. The instruction takes bytes of b as unsigned: b is packed with the highest bits inverted, which
// adds 128 to each, and the sums are corrected.
struct VnniDot {
  using Term = int8_t;
  static constexpr size_t group = 4;
  static constexpr int flips = 0x80;

  static Avx512 load_units(const int8_t* p) { return {_mm512_loadu_ps(p)}; }

  // Written as assembly so that the unit, which serves CPUs without VNNI too, need not be compiled for it.
  static Avx512 add_products(Avx512 acc, Avx512 a, Avx512 b) {
    asm("vpdpbusd %2, %1, %0" : "+v"(acc.v) : "v"(b.v), "v"(a.v));
    return acc;
  }

  static void zip(const int8_t* from, size_t stride, Bytes* units) {
    using V = Avx512;
    const Bytes a = load_bytes<V>(from), b = load_bytes<V>(from + stride);
    const Bytes c = load_bytes<V>(from + 2 * stride), d = load_bytes<V>(from + 3 * stride);
    const Bytes ac_low = zip_low<V>(a, c), bd_low = zip_low<V>(b, d);
    const Bytes ac_high = zip_high<V>(a, c), bd_high = zip_high<V>(b, d);
    units[0] = zip_low<V>(ac_low, bd_low), units[1] = zip_high<V>(ac_low, bd_low);
    units[2] = zip_low<V>(ac_high, bd_high), units[3] = zip_high<V>(ac_high, bd_high);
  }
};

}  // namespace kernels
