// Causal attention of `fast` (docs/numerics.md section 10), after FlashAttention-2: one pass over the keys, no T x T
// matrix, products by mma.sync. A block owns some tokens, of which each of four warps has 16, or twice 16, as the rows
// of its products: queries, or in backward_keys keys. It walks over the other tokens, some at a time, which lie in
// shared memory while the next ones are on their way. Scores stay in registers, where the sums of one product are laid
// out as the next one's rows.
//
// The backward pass computes the scores again in both of its kernels, 7 products instead of 5, so that each gradient is
// added up by one warp in one order.
#include "cuda/approximate.cuh"
#include "cuda/elementary.cuh"
#include "cuda/flash_tiles.cuh"

namespace kernels::cuda {
namespace {

constexpr uint32_t threads = flash_threads, warps = threads / warp_lanes;
static_assert(attention_tile == warps * fragment_rows, "a warp of a backward kernel has one set of rows");

__device__ inline uint32_t warp() { return threadIdx.x / warp_lanes; }

// The place of a lane's sum i in its columns of eight, and in its 16 rows.
__device__ inline uint32_t column_of(uint32_t j, uint32_t i) { return 8 * j + 2 * lane_pair() + i % 2; }
__device__ inline uint32_t row_of(uint32_t i) { return lane_row() + i / 2 * 8; }

// Tokens that a block walks over, two tensors of them, in two stages: while one is computed, the other is filled.
template <uint32_t width>
struct Stages {
  static constexpr uint32_t tokens = width <= 64 ? 64 : 32, tile_words = tokens * width / 2;
  alignas(token_bytes<width>) uint32_t words[4 * tile_words];

  __device__ Tile<width> tile(uint32_t stage, uint32_t tensor) { return {words + (2 * stage + tensor) * tile_words}; }
};

// Keys beyond the query get no weight; query and key are the first of rows and columns.
template <uint32_t columns>
__device__ void hide_later_keys(float (&scores)[columns / 8][4], uint32_t query, uint32_t key) {
#pragma unroll
  for (uint32_t j = 0; j < columns / 8; ++j) {
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) {
      if (key + column_of(j, i) > query + row_of(i)) scores[j][i] = -infinity();
    }
  }
}

// The first of a block's `queries` queries, the longest rows first, and their head.
struct QueryTile {
  uint32_t token;
  Head head;
};

// Computed anew by each call: what only the end of a kernel needs takes no registers until then.
__device__ inline QueryTile query_tile(const AttentionShape& p, uint32_t queries) {
#if defined(__CUDA_ARCH__)
  uint32_t number;
  asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(number));
#else
  const uint32_t number = blockIdx.x;
#endif
  const uint32_t head = number / p.tiles;
  return {(p.tiles - 1 - number % p.tiles) * queries, head_of(p, head / p.heads, head % p.heads)};
}

// The same tokens' values: a head's q, k and v lie in one tensor.
__device__ inline Source values_of_keys(const AttentionShape& p, const Source& keys) {
  Source values = keys;
  values.first += p.kv_heads * p.head_size;
  return values;
}

// The warp's rows of sums, each multiplied by the factor of the lane's first or second row.
template <class Half, uint32_t width>
__device__ void put_rows(const AttentionShape& p, uint32_t token, uint32_t column, const float (&sums)[width / 8][4],
                         const float (&factors)[2], void* tensor, const Tokens& tokens) {
#pragma unroll
  for (uint32_t r = 0; r < 2; ++r) {
    const uint32_t row = token + row_of(2 * r);
    if (row >= p.context) continue;
    uint16_t* const to = static_cast<uint16_t*>(tensor) + tokens.first + row * tokens.row;
#pragma unroll
    for (uint32_t j = 0; j < width / 8; ++j) {
      const uint32_t dimension = column + column_of(j, 0);
      if (dimension >= p.head_size) continue;
      const uint32_t pair = Half::pack(sums[j][2 * r] * factors[r], sums[j][2 * r + 1] * factors[r]);
      if (p.aligned) {
        *reinterpret_cast<uint32_t*>(to + dimension) = pair;
      } else {
        to[dimension] = static_cast<uint16_t>(pair);
        if (dimension + 1 < p.head_size) to[dimension + 1] = static_cast<uint16_t>(pair >> 16);
      }
    }
  }
}

// Over the four lanes that have a row of sums.
__device__ inline float quad_sum(float x) {
  x = x + __shfl_xor_sync(all_lanes, x, 1);
  return x + __shfl_xor_sync(all_lanes, x, 2);
}
__device__ inline float quad_maximum(float x) {
  x = fmaxf(x, __shfl_xor_sync(all_lanes, x, 1));
  return fmaxf(x, __shfl_xor_sync(all_lanes, x, 2));
}

// The largest score of each of the lane's two rows so far, not yet scaled, and its share of the sum of the weights.
struct Softmax {
  float highest[2], sum[2];
};

// Scores become weights, powers of two of exponent * (score - highest); factors: by which what was summed before must
// be multiplied.
template <uint32_t keys>
__device__ void add_scores(Softmax& softmax, float (&scores)[keys / 8][4], float (&factors)[2], float exponent) {
  float highest[2] = {softmax.highest[0], softmax.highest[1]};
#pragma unroll
  for (uint32_t j = 0; j < keys / 8; ++j) {
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) highest[i / 2] = fmaxf(highest[i / 2], scores[j][i]);
  }
  float shift[2];
#pragma unroll
  for (uint32_t r = 0; r < 2; ++r) {
    highest[r] = quad_maximum(highest[r]);
    shift[r] = highest[r] * exponent;
    factors[r] = power_of_two(__fmaf_rn(softmax.highest[r], exponent, -shift[r]));
    softmax.sum[r] = softmax.sum[r] * factors[r];
    softmax.highest[r] = highest[r];
  }
#pragma unroll
  for (uint32_t j = 0; j < keys / 8; ++j) {
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) {
      scores[j][i] = power_of_two(__fmaf_rn(scores[j][i], exponent, -shift[i / 2]));
      softmax.sum[i / 2] = softmax.sum[i / 2] + scores[j][i];
    }
  }
}

// Ends the forward pass of the warp's queries.
template <class Half, uint32_t width, uint32_t sets>
__device__ void put_results(const AttentionForwardArgs& args, const float (&out)[sets][width / 8][4],
                            const Softmax (&softmax)[sets]) {
  const AttentionShape& p = args.shape;
  const QueryTile at = query_tile(p, flash_queries<width>);
#pragma unroll
  for (uint32_t set = 0; set < sets; ++set) {
    const uint32_t query = at.token + (warp() * sets + set) * fragment_rows;
    float inverse[2];
#pragma unroll
    for (uint32_t r = 0; r < 2; ++r) inverse[r] = 1.0f / quad_sum(softmax[set].sum[r]);
    put_rows<Half, width>(p, query, 0, out[set], inverse, args.out, at.head.out);
#pragma unroll
    for (uint32_t r = 0; r < 2; ++r) {
      const uint32_t row = query + row_of(2 * r);
      if (lane_pair() != 0 || row >= p.context) continue;
      args.row_max[at.head.query + row] = softmax[set].highest[r] * p.scale;
      args.inverse_sum[at.head.query + row] = inverse[r];
    }
  }
}

template <class Half, uint32_t width>
__device__ void forward(const AttentionForwardArgs& args, Stages<width>& stages) {
  constexpr uint32_t keys = Stages<width>::tokens, queries = flash_queries<width>;
  constexpr uint32_t sets = queries / warps / fragment_rows, warp_queries = sets * fragment_rows;
  const AttentionShape& p = args.shape;
  const QueryTile at = query_tile(p, queries);
  const Source k = source_of(p, p.qkv, at.head.k);
  const uint32_t first_query = at.token + warp() * warp_queries, end = min(at.token + queries, p.context);
  const float exponent = p.scale * math::log2_e;

  const auto begin_stage = [&](uint32_t stage, uint32_t key) {
    begin_copies<Half, keys, width>({stages.tile(stage, 0), stages.tile(stage, 1)}, {k, values_of_keys(p, k)}, key);
  };
  static_assert(queries == 2 * keys, "they have the room of a stage");
  begin_copies<Half, queries, width>({stages.tile(1, 0)}, {source_of(p, p.qkv, at.head.q)}, at.token);
  begin_stage(0, 0);
  wait_for_groups(Half{});
  __syncthreads();
  Rows<width> q[sets];
#pragma unroll
  for (uint32_t set = 0; set < sets; ++set)
    load_rows(q[set], stages.tile(1, 0), warp() * warp_queries + set * fragment_rows);

  Softmax softmax[sets];
  float out[sets][width / 8][4];
#pragma unroll
  for (uint32_t set = 0; set < sets; ++set) {
    softmax[set] = {{-infinity(), -infinity()}, {0.0f, 0.0f}};
    clear(out[set]);
  }
#pragma unroll 1
  for (uint32_t key = 0; key < end; key += keys) {
    const uint32_t stage = key / keys % 2;
    wait_for_groups(Half{});
    __syncthreads();
    if (key + keys < end) begin_stage(stage ^ 1, key + keys);
    if (key >= first_query + warp_queries) continue;
    float scores[sets][keys / 8][4];
#pragma unroll
    for (uint32_t set = 0; set < sets; ++set) clear(scores[set]);
    multiply_by_tokens<Half, keys>(scores, q, stages.tile(stage, 0));
    Rows<keys> weights[sets];
#pragma unroll
    for (uint32_t set = 0; set < sets; ++set) {
      const uint32_t query = first_query + set * fragment_rows;
      if (key + keys > query + 1) hide_later_keys<keys>(scores[set], query, key);
      float factors[2];
      add_scores<keys>(softmax[set], scores[set], factors, exponent);
#pragma unroll
      for (uint32_t j = 0; j < width / 8; ++j) {
#pragma unroll
        for (uint32_t i = 0; i < 4; ++i) out[set][j][i] = out[set][j][i] * factors[i / 2];
      }
      to_rows<Half>(weights[set], scores[set]);
    }
    multiply_by_dimensions<Half, width>(out, weights, stages.tile(stage, 1), 0);
  }
  put_results<Half, width>(args, out, softmax);
}

// What a score's exponent is reduced by so that its power of two is the weight: log2 of the sum of all of them. Of
// queries that do not exist the weights become 0.
__device__ inline float log_sum(const AttentionShape& p, const Head& head, uint32_t query) {
  if (query >= p.context) return infinity();
  const uint64_t at = head.query + query;
  return __fmaf_rn(p.row_max[at], math::log2_e, -binary_logarithm(p.inverse_sum[at]));
}

// The warp's rows of the block's tokens of two tensors. begin_first() begins the first stage, which has room beside
// them in narrow heads.
template <class Half, uint32_t width, class BeginFirst>
__device__ void load_own_rows(Rows<width>& x, Rows<width>& y, const Source& of_x, const Source& of_y, uint32_t token,
                              Stages<width>& stages, BeginFirst begin_first) {
  constexpr uint32_t tile_words = attention_tile * width / 2;
  constexpr bool beside = 2 * tile_words <= 2 * Stages<width>::tile_words;
  const Tile<width> tile_x = stages.tile(beside ? 1 : 0, 0), tile_y = {tile_x.first + tile_words};
  begin_copies<Half, attention_tile, width>({tile_x, tile_y}, {of_x, of_y}, token);
  if (beside) begin_first();
  wait_for_groups(Half{});
  __syncthreads();
  load_rows(x, tile_x, warp() * fragment_rows);
  load_rows(y, tile_y, warp() * fragment_rows);
  if (beside) return;
  __syncthreads();
  begin_first();
}

// D of the docs for the lane's two rows, of the rows of dout and those of out from `token` on.
template <class Half, uint32_t width>
__device__ void find_row_products(float (&products)[2], const Rows<width>& dout, const Source& out, uint32_t token) {
  products[0] = products[1] = 0.0f;
#pragma unroll
  for (uint32_t s = 0; s < width / 16; ++s) {
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) {
      const uint32_t x = out.pair(token + lane_row() + i % 2 * 8, 16 * s + i / 2 * 8 + 2 * lane_pair());
      const uint32_t dx = dout.a[s][i];
#pragma unroll
      for (uint32_t h = 0; h < 2; ++h) {
        products[i % 2] = __fmaf_rn(Half::value(static_cast<uint16_t>(dx >> 16 * h)),
                                    Half::value(static_cast<uint16_t>(x >> 16 * h)), products[i % 2]);
      }
    }
  }
  products[0] = quad_sum(products[0]), products[1] = quad_sum(products[1]);
}

template <class Half, uint32_t width>
__device__ void backward_queries(const AttentionBackwardArgs& args, Stages<width>& stages) {
  constexpr uint32_t keys = Stages<width>::tokens;
  const AttentionShape& p = args.shape;
  const QueryTile at = query_tile(p, attention_tile);
  const Head& head = at.head;
  const Source k = source_of(p, p.qkv, head.k);
  const uint32_t first_query = at.token + warp() * fragment_rows, end = min(at.token + attention_tile, p.context);
  const float exponent = p.scale * math::log2_e;

  const auto begin_stage = [&](uint32_t stage, uint32_t key) {
    begin_copies<Half, keys, width>({stages.tile(stage, 0), stages.tile(stage, 1)}, {k, values_of_keys(p, k)}, key);
  };
  Rows<width> q[1], dout[1];
  load_own_rows<Half>(q[0], dout[0], source_of(p, p.qkv, head.q), source_of(p, args.dout, head.out), at.token, stages,
                      [&] { begin_stage(0, 0); });
  float row_products[2], log_sums[2];
  find_row_products<Half>(row_products, dout[0], source_of(p, args.out, head.out), first_query);
#pragma unroll
  for (uint32_t r = 0; r < 2; ++r) {
    const uint32_t query = first_query + row_of(2 * r);
    log_sums[r] = log_sum(p, head, query);
    if (lane_pair() == 0 && query < p.context) args.row_products[head.query + query] = row_products[r];
  }

  float dq[1][width / 8][4];
  clear(dq[0]);
#pragma unroll 1
  for (uint32_t key = 0; key < end; key += keys) {
    const uint32_t stage = key / keys % 2;
    wait_for_groups(Half{});
    __syncthreads();
    if (key + keys < end) begin_stage(stage ^ 1, key + keys);
    float scores[1][keys / 8][4], dscores[1][keys / 8][4];
    clear(scores[0]);
    multiply_by_tokens<Half, keys>(scores, q, stages.tile(stage, 0));
    if (key + keys > first_query + 1) hide_later_keys<keys>(scores[0], first_query, key);
#pragma unroll
    for (uint32_t j = 0; j < keys / 8; ++j) {
#pragma unroll
      for (uint32_t i = 0; i < 4; ++i) dscores[0][j][i] = -row_products[i / 2];
    }
    multiply_by_tokens<Half, keys>(dscores, dout, stages.tile(stage, 1));
#pragma unroll
    for (uint32_t j = 0; j < keys / 8; ++j) {
#pragma unroll
      for (uint32_t i = 0; i < 4; ++i) {
        const float weight = power_of_two(__fmaf_rn(scores[0][j][i], exponent, -log_sums[i / 2]));
        dscores[0][j][i] = weight * dscores[0][j][i];
      }
    }
    Rows<keys> rows[1];
    to_rows<Half>(rows[0], dscores[0]);
    multiply_by_dimensions<Half, width>(dq, rows, stages.tile(stage, 0), 0);
  }
  put_rows<Half, width>(p, first_query, 0, dq[0], {p.scale, p.scale}, args.dqkv, head.q);
}

// A block has so many of a head's dimensions that the sums of both gradients fit the registers.
constexpr uint32_t slice = flash_slice;

// Beside the queries their statistics.
template <uint32_t width>
struct BackwardKeysShared {
  Stages<width> stages;
  float log_sums[2][Stages<width>::tokens], row_products[2][Stages<width>::tokens];
};

// Where a block of keys is on its way over the queries: those from its own keys on, of each head that has these keys.
struct Walk {
  uint32_t member, query;

  __device__ Walk next(uint32_t step, uint32_t first, uint32_t context) const {
    return query + step < context ? Walk{member, query + step} : Walk{member + 1, first};
  }
};

template <class Half, uint32_t width>
__device__ void backward_keys(const AttentionBackwardArgs& args, BackwardKeysShared<width>& shared) {
  constexpr uint32_t queries = Stages<width>::tokens;
  const AttentionShape& p = args.shape;
  const TokenTile at = tile_of_block(p, slice);
  const uint32_t group = p.heads / p.kv_heads, sequence = at.head / p.kv_heads, kv_head = at.head % p.kv_heads;
  const Head first = head_of(p, sequence, kv_head * group);
  const uint32_t first_key = at.token + warp() * fragment_rows;
  const float exponent = p.scale * math::log2_e;

  const auto begin_stage = [&](uint32_t stage, const Walk& walk) {
    const Head head = head_of(p, sequence, kv_head * group + walk.member);
    begin_copies<Half, queries, width>({shared.stages.tile(stage, 0), shared.stages.tile(stage, 1)},
                                       {source_of(p, p.qkv, head.q), source_of(p, args.dout, head.out)}, walk.query);
    if (threadIdx.x >= queries) return;
    const uint32_t query = walk.query + threadIdx.x;
    shared.log_sums[stage][threadIdx.x] = log_sum(p, head, query);
    shared.row_products[stage][threadIdx.x] = query < p.context ? args.row_products[head.query + query] : 0.0f;
  };
  Walk walk = {0, at.token};
  Rows<width> k[1], v[1];
  load_own_rows<Half>(k[0], v[0], source_of(p, p.qkv, first.k), source_of(p, p.qkv, first.v), at.token, shared.stages,
                      [&] { begin_stage(0, walk); });

  float dk[1][slice / 8][4], dv[1][slice / 8][4];
  clear(dk[0]);
  clear(dv[0]);
  uint32_t stage = 0;
#pragma unroll 1
  for (; walk.member < group; stage ^= 1) {
    wait_for_groups(Half{});
    __syncthreads();
    const Walk next = walk.next(queries, at.token, p.context);
    if (next.member < group) begin_stage(stage ^ 1, next);
    float weights[1][queries / 8][4], dscores[1][queries / 8][4];
    clear(weights[0]);
    multiply_by_tokens<Half, queries>(weights, k, shared.stages.tile(stage, 0));
    const bool hides = walk.query < first_key + fragment_rows;
#pragma unroll
    for (uint32_t j = 0; j < queries / 8; ++j) {
#pragma unroll
      for (uint32_t i = 0; i < 4; ++i) {
        const uint32_t column = column_of(j, i);
        const float weight = power_of_two(__fmaf_rn(weights[0][j][i], exponent, -shared.log_sums[stage][column]));
        weights[0][j][i] = hides && first_key + row_of(i) > walk.query + column ? 0.0f : weight;
        dscores[0][j][i] = -shared.row_products[stage][column];
      }
    }
    Rows<queries> rows[1];
    to_rows<Half>(rows[0], weights[0]);
    multiply_by_dimensions<Half, slice>(dv, rows, shared.stages.tile(stage, 1), at.column / 8);
    multiply_by_tokens<Half, queries>(dscores, v, shared.stages.tile(stage, 1));
#pragma unroll
    for (uint32_t j = 0; j < queries / 8; ++j) {
#pragma unroll
      for (uint32_t i = 0; i < 4; ++i) dscores[0][j][i] = weights[0][j][i] * dscores[0][j][i];
    }
    to_rows<Half>(rows[0], dscores[0]);
    multiply_by_dimensions<Half, slice>(dk, rows, shared.stages.tile(stage, 0), at.column / 8);
    walk = next;
  }
  put_rows<Half, slice>(p, first_key, at.column, dk[0], {p.scale, p.scale}, args.dqkv, first.k);
  put_rows<Half, slice>(p, first_key, at.column, dv[0], {1.0f, 1.0f}, args.dqkv, first.v);
}

}  // namespace

// Blocks that a multiprocessor takes at once: registers allow two, and for this one three where shared memory has room.
template <uint32_t width, class Half>
constexpr uint32_t backward_queries_blocks = 2;
template <>
constexpr uint32_t backward_queries_blocks<64, Bf16> = 3;

// Names have the largest head size, then what the operands are rounded to.
#define FLASH_ATTENTION_KERNEL(name, Args, Shared, blocks, function)                    \
  extern "C" __global__ __launch_bounds__(threads, blocks) void name(const Args args) { \
    static __shared__ Shared shared;                                                    \
    function(args, shared);                                                             \
  }
#define FLASH_ATTENTION(width, suffix, Half)                                                                     \
  FLASH_ATTENTION_KERNEL(flash_attention_forward_##width##suffix, AttentionForwardArgs, Stages<width>, 2,        \
                         (forward<Half, width>))                                                                 \
  FLASH_ATTENTION_KERNEL(flash_attention_backward_queries_##width##suffix, AttentionBackwardArgs, Stages<width>, \
                         (backward_queries_blocks<width, Half>), (backward_queries<Half, width>))                \
  FLASH_ATTENTION_KERNEL(flash_attention_backward_keys_##width##suffix, AttentionBackwardArgs,                   \
                         BackwardKeysShared<width>, 2, (backward_keys<Half, width>))

#define FLASH_ATTENTION_OF_HALVES(suffix, Half) FLASH_ATTENTION(64, suffix, Half) FLASH_ATTENTION(128, suffix, Half)

FOR_HALVES(FLASH_ATTENTION_OF_HALVES)

}  // namespace kernels::cuda
