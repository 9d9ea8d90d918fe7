#include "mma.h"

#include <bit>
#include <cmath>
#include <limits>

namespace simt {
namespace {

// The numbers in a register, and how their products are added to a sum.
struct Digits {
  using Number = int32_t;
  static constexpr unsigned in_register = 4;
  static int32_t at(uint32_t word, unsigned i) { return static_cast<int8_t>(word >> 8 * i & 0xff); }
  static int32_t begin(int32_t bits) { return bits; }
  static int32_t plus(int32_t sum, int32_t product) {
    return static_cast<int32_t>(static_cast<uint32_t>(sum) + static_cast<uint32_t>(product));
  }
  static int32_t end(int32_t sum) { return sum; }
};

struct Floats {
  using Number = double;
  static constexpr unsigned in_register = 2;
  static double begin(int32_t bits) { return static_cast<double>(std::bit_cast<float>(bits)); }
  static double plus(double sum, double product) { return sum + product; }
  static int32_t end(double sum) { return std::bit_cast<int32_t>(static_cast<float>(sum)); }
};

struct Bf16s : Floats {
  static double at(uint32_t word, unsigned i) {
    return static_cast<double>(std::bit_cast<float>(i == 0 ? word << 16 : word & 0xffff0000));
  }
};

struct Fp16s : Floats {
  static double at(uint32_t word, unsigned i) {
    const uint32_t half = word >> 16 * i & 0xffff, exponent = half >> 10 & 31, fraction = half & 1023;
    double magnitude =
        std::ldexp(exponent == 0 ? fraction : fraction + 1024, exponent == 0 ? -24 : static_cast<int>(exponent) - 25);
    if (exponent == 31) {
      magnitude = fraction == 0 ? std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
    }
    return half >> 15 ? -magnitude : magnitude;
  }
};

// "Matrix Fragments for mma.m8n8k16" and its like of the PTX ISA. All are made of the same parts: a register of a has 8
// rows (a lane's groupID) of 4 lanes' numbers, which are neighbours (those of threadID_in_group); one of b as many
// terms of 8 columns; two sums are 8 rows of 8 columns.
template <class Kind, unsigned row_parts, unsigned term_parts>
void multiply_parts(Fragments* const (&lanes)[32]) {
  constexpr unsigned each = Kind::in_register, part_terms = 4 * each, terms = part_terms * term_parts;
  typename Kind::Number a[8 * row_parts][terms], b[8][terms];
  for (unsigned lane = 0; lane < 32; ++lane) {
    const unsigned group = lane / 4, in_group = lane % 4;
    for (unsigned part = 0; part < term_parts; ++part) {
      for (unsigned i = 0; i < each; ++i) {
        const unsigned term = part_terms * part + each * in_group + i;
        for (unsigned rows = 0; rows < row_parts; ++rows)
          a[8 * rows + group][term] = Kind::at(lanes[lane]->a[row_parts * part + rows], i);
        b[group][term] = Kind::at(lanes[lane]->b[part], i);
      }
    }
  }
  for (unsigned lane = 0; lane < 32; ++lane) {
    for (unsigned i = 0; i < 2 * row_parts; ++i) {
      const unsigned row = 8 * (i / 2) + lane / 4, column = lane % 4 * 2 + i % 2;
      typename Kind::Number sum = Kind::begin(lanes[lane]->sums[i]);
      for (unsigned term = 0; term < terms; ++term) sum = Kind::plus(sum, a[row][term] * b[column][term]);
      lanes[lane]->sums[i] = Kind::end(sum);
    }
  }
}

}  // namespace

void multiply(Fragments* const (&lanes)[32]) {
  switch (lanes[0]->shape) {
    case Mma::m8n8k16:
      return multiply_parts<Digits, 1, 1>(lanes);
    case Mma::m16n8k32:
      return multiply_parts<Digits, 2, 2>(lanes);
    case Mma::m16n8k16_bf16:
      return multiply_parts<Bf16s, 2, 2>(lanes);
    case Mma::m16n8k8_fp16:
      return multiply_parts<Fp16s, 2, 1>(lanes);
  }
}

}  // namespace simt
