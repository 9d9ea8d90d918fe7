// SHA-256 (FIPS 180-4) of the leaves of a Merkle tree (RFC 6962), a thread each: a large array has thousands of them.
#include "cuda/grid.cuh"
#include "cuda/leaf_hashes_args.h"

namespace kernels::cuda {

// FIPS 180-4, sections 4.2.2 and 5.3.3.
__device__ const uint32_t sha256_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
__device__ const uint32_t sha256_start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                             0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

__device__ inline uint32_t turn(uint32_t x, int bits) { return (x >> bits) | (x << (32 - bits)); }

// The four bytes of x in memory, the first one highest.
__device__ inline uint32_t big_endian(uint32_t x) {
  return (x << 24) | ((x & 0xff00u) << 8) | ((x >> 8) & 0xff00u) | (x >> 24);
}

// Section 6.2.2: w has a block of the message, and then what is left of its schedule.
__device__ inline void compress(uint32_t (&state)[8], uint32_t (&w)[16]) {
  uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
  uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
#pragma unroll
  for (int t = 0; t < 64; ++t) {
    if (t >= 16) {
      const uint32_t before15 = w[(t + 1) % 16], before2 = w[(t + 14) % 16];
      w[t % 16] += (turn(before15, 7) ^ turn(before15, 18) ^ (before15 >> 3)) + w[(t + 9) % 16] +
                   (turn(before2, 17) ^ turn(before2, 19) ^ (before2 >> 10));
    }
    const uint32_t first =
        h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) + sha256_constants[t] + w[t % 16];
    const uint32_t second = (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
    h = g, g = f, f = e, e = d + first, d = c, c = b, b = a, a = first + second;
  }
  state[0] += a, state[1] += b, state[2] += c, state[3] += d;
  state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

// The zero byte shifts the message: each of its words ends in the middle of a float. After the last one come the bit 1,
// zeros, and the number of bits.
extern "C" __global__ void leaf_hashes(const LeafHashesArgs args) {
  const uint64_t first = grid_index() * args.leaf;
  if (first >= args.count) return;
  const float* const x = args.x + first;
  const uint64_t rest = args.count - first;
  const uint32_t count = rest < args.leaf ? static_cast<uint32_t>(rest) : args.leaf;
  const uint32_t blocks = (count + 3 + 15) / 16;
  uint32_t state[8], w[16], float_before = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) state[i] = sha256_start[i];
  for (uint32_t block = 0; block < blocks; ++block) {
#pragma unroll
    for (uint32_t i = 0; i < 16; ++i) {
      const uint32_t at = block * 16 + i;
      const uint32_t here = at < count ? big_endian(__float_as_uint(x[at])) : at == count ? 0x80000000u : 0u;
      w[i] = (float_before << 24) | (here >> 8);
      float_before = here;
    }
    if (block == blocks - 1) w[15] = 8 * (1 + 4 * count);
    compress(state, w);
  }
  auto* const hash = reinterpret_cast<uint32_t*>(args.hashes) + grid_index() * 8;
#pragma unroll
  for (int i = 0; i < 8; ++i) hash[i] = big_endian(state[i]);
}

}  // namespace kernels::cuda
