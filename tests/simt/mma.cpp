#include "mma.h"

namespace simt {
namespace {

constexpr unsigned most_rows = 16, columns = 8, most_terms = 32;

int8_t digit(uint32_t word, unsigned i) { return static_cast<int8_t>(word >> 8 * i & 0xff); }

}  // namespace

// "Matrix Fragments for mma.m8n8k16" and "... mma.m16n8k32" of the PTX ISA. Both are made of the same parts: a register
// of a has 8 rows (a lane's groupID) of 16 terms (four from 4 * threadID_in_group on), one of b 16 terms of 8 columns,
// and two sums are 8 rows of 8 columns.
void multiply(Fragments* const (&lanes)[32]) {
  const unsigned row_parts = lanes[0]->shape == Mma::m8n8k16 ? 1 : 2, term_parts = row_parts;
  int8_t a[most_rows][most_terms], b[columns][most_terms];
  for (unsigned lane = 0; lane < 32; ++lane) {
    const unsigned group = lane / 4, in_group = lane % 4;
    for (unsigned part = 0; part < term_parts; ++part) {
      for (unsigned i = 0; i < 4; ++i) {
        const unsigned term = 16 * part + 4 * in_group + i;
        for (unsigned rows = 0; rows < row_parts; ++rows)
          a[8 * rows + group][term] = digit(lanes[lane]->a[row_parts * part + rows], i);
        b[group][term] = digit(lanes[lane]->b[part], i);
      }
    }
  }
  for (unsigned lane = 0; lane < 32; ++lane) {
    for (unsigned i = 0; i < 2 * row_parts; ++i) {
      const unsigned row = 8 * (i / 2) + lane / 4, column = lane % 4 * 2 + i % 2;
      int32_t sum = 0;
      for (unsigned term = 0; term < 16 * term_parts; ++term) sum += a[row][term] * b[column][term];
      int32_t& total = lanes[lane]->sums[i];
      total = static_cast<int32_t>(static_cast<uint32_t>(total) + static_cast<uint32_t>(sum));
    }
  }
}

}  // namespace simt
