// Constants of the elementary functions of docs/numerics.md section 2, and of the codecs of section 7. Only constants:
// each implementation writes its own operations. Device code reads them too, so no header is included.
#pragma once

namespace kernels::math {

inline constexpr float log2_e = 0x1.715476p+0f;
inline constexpr float ln2_high = 0x1.62e430p-1f;
inline constexpr float ln2_low = -0x1.05c610p-29f;

// x + round_magic rounds |x| < 2^22 to an integer, which then stands in the low bits of the sum.
inline constexpr float round_magic = 0x1.8p+23f;

// exp(r) - 1 = r + r^2 (exp_poly[0] + exp_poly[1] r + …) for |r| <= ln(2) / 2.
inline constexpr float exp_poly[5] = {0x1.000000p-1f, 0x1.5554b0p-3f, 0x1.555488p-5f, 0x1.1227e8p-7f, 0x1.6d98eap-10f};
inline constexpr float exp_lowest = -87.0f;           // below it exp is +0, by definition
inline constexpr float exp_highest = 0x1.62e42ep+6f;  // above it exp is +inf

// log((1 + s) / (1 - s)) = 2 s + s (log_poly[0] z + log_poly[1] z^2 + log_poly[2] z^3), z = s^2, |s| <= 0.1716.
inline constexpr float log_poly[3] = {0x1.55557ap-1f, 0x1.995efep-2f, 0x1.31dd06p-2f};
inline constexpr int sqrt_half_bits = 0x3f3504f3;  // fp32 sqrt(1/2)
inline constexpr float smallest_normal = 0x1p-126f;

inline constexpr float tanh_saturation = 10.0f;  // tanh of more is 1

inline constexpr unsigned codec_block = 64;              // elements that share a scale
inline constexpr float codec_smallest_amax = 0x1p-100f;  // of a block; below it all of it is 0
// Digits are -largest ... largest; largest_scale is the largest float whose `largest`-fold is finite.
struct Int4Range {
  static constexpr int largest = 7;
  static constexpr float largest_scale = 0x1.249248p125f;
};
struct Int8Range {
  static constexpr int largest = 127;
  static constexpr float largest_scale = 0x1.020406p121f;
};

}  // namespace kernels::math
