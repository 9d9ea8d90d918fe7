// Causal attention of `fast` (docs/numerics.md section 10), after FlashAttention-2: one pass over the keys, no T x T
// matrix, products by mma.sync. A block has 64 tokens, of which each of four warps owns 16 as the rows of its products:
// queries, or in backward_keys keys. It walks over the other tokens, some at a time, whose halves lie in shared memory.
// Scores stay in registers, where the sums of one product are laid out as the next one's rows.
//
// The backward pass computes the scores again in both of its kernels, 7 products instead of 5, so that each gradient is
// added up by one warp in one order.
#include "cuda/attention_heads.cuh"
#include "cuda/elementary.cuh"
#include "cuda/numbers.cuh"
#include "cuda/reduce.cuh"

namespace kernels::cuda {
namespace {

constexpr uint32_t threads = flash_threads, warp_rows = attention_tile / (threads / warp_lanes);
static_assert(warp_rows == 16, "the rows of mma.sync");

// Places of a lane in the fragments of mma.cuh.
__device__ inline uint32_t lane_row() { return lane() / 4; }
__device__ inline uint32_t lane_pair() { return lane() % 4; }
__device__ inline uint32_t first_row() { return threadIdx.x / warp_lanes * warp_rows; }

// Lines of terms in shared memory, two neighbouring terms to a word. Between lines lie four words, so that the 8 x 4
// words which a warp reads at once are in different banks.
template <uint32_t lines, uint32_t terms>
struct Words {
  static constexpr uint32_t stride = terms / 2 + 4;
  uint32_t x[lines * stride];

  __device__ uint32_t& at(uint32_t line, uint32_t pair) { return x[line * stride + pair]; }
};

// A head's tokens; what is outside is 0.
struct Source {
  const uint16_t* first;
  uint64_t row;
  uint32_t context, head_size;
  bool aligned;

  __device__ uint32_t inside(uint32_t token, uint32_t dimension) const {
    return token < context ? left(dimension, head_size) : 0;
  }
  __device__ FourHalves four(uint32_t token, uint32_t dimension) const {
    return load_halves(first + token * row + dimension, inside(token, dimension), aligned);
  }
  __device__ uint32_t pair(uint32_t token, uint32_t dimension) const {
    const uint16_t* const from = first + token * row + dimension;
    const uint32_t count = inside(token, dimension);
    if (aligned && count >= 2) return *reinterpret_cast<const uint32_t*>(from);
    return (count >= 1 ? from[0] : 0u) | (count >= 2 ? uint32_t{from[1]} << 16 : 0u);
  }
};

__device__ inline Source source_of(const AttentionShape& p, const void* tensor, const Tokens& tokens) {
  return {static_cast<const uint16_t*>(tensor) + tokens.first, tokens.row, p.context, p.head_size, p.aligned != 0};
}

// put(pair, dimension, x, y) for all pairs of `count` tokens from `token` on and all fours of `width` dimensions: x and
// y are those of tokens 2 * pair and 2 * pair + 1. A warp has 16 pairs and 8 dimensions at once: whole sectors of
// memory, and words of as many banks in put_by_dimension().
template <uint32_t count, uint32_t width, class Put>
__device__ void for_each_pair(const Source& from, uint32_t token, Put put) {
#pragma unroll 1
  for (uint32_t i = threadIdx.x; i < count / 2 * (width / 4); i += threads) {
    const uint32_t pair = i / 2 % (count / 2), dimension = (i % 2 + i / count * 2) * 4;
    put(pair, dimension, from.four(token + 2 * pair, dimension), from.four(token + 2 * pair + 1, dimension));
  }
}

// Tokens as lines of dimensions, for products over those.
template <uint32_t count, uint32_t width>
__device__ void put_by_token(Words<count, width>& to, uint32_t pair, uint32_t dimension, const FourHalves& x,
                             const FourHalves& y) {
#pragma unroll
  for (uint32_t i = 0; i < 2; ++i) {
    to.at(2 * pair, dimension / 2 + i) = x.x[i];
    to.at(2 * pair + 1, dimension / 2 + i) = y.x[i];
  }
}

// Dimensions as lines of tokens, for products over those; those from `first` on.
template <uint32_t width, uint32_t count>
__device__ void put_by_dimension(Words<width, count>& to, uint32_t first, uint32_t pair, uint32_t dimension,
                                 const FourHalves& x, const FourHalves& y) {
  if (dimension < first || dimension >= first + width) return;
#pragma unroll
  for (uint32_t i = 0; i < 4; ++i) to.at(dimension - first + i, pair) = pair_of(x, y, i);
}

// 16 rows of so many terms, in the fragments of a.
template <uint32_t terms>
struct Rows {
  uint32_t a[terms / 16][4];
};

// The warp's 16 tokens of the 64 from `token` on.
template <uint32_t width>
__device__ void load_rows(Rows<width>& rows, const Source& from, uint32_t token) {
#pragma unroll
  for (uint32_t s = 0; s < width / 16; ++s) {
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) {
      const uint32_t row = token + first_row() + lane_row() + i % 2 * 8, term = 16 * s + i / 2 * 8 + 2 * lane_pair();
      rows.a[s][i] = from.pair(row, term);
    }
  }
}

// Sums of a product as the rows of the next: their columns become its terms.
template <class Half, uint32_t columns>
__device__ void to_rows(Rows<columns>& rows, const float (&sums)[columns / 8][4]) {
#pragma unroll
  for (uint32_t s = 0; s < columns / 16; ++s) {
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) {
      const float* pair = sums[2 * s + i / 2] + i % 2 * 2;
      rows.a[s][i] = Half::pack(pair[0], pair[1]);
    }
  }
}

// sums + = the products of the rows and the lines of `b`, of which each is a column.
template <class Half, uint32_t columns, uint32_t terms>
__device__ void multiply(float (&sums)[columns / 8][4], const Rows<terms>& rows, Words<columns, terms>& b) {
#pragma unroll
  for (uint32_t s = 0; s < terms / 16; ++s) {
#pragma unroll
    for (uint32_t j = 0; j < columns / 8; ++j) {
      const uint32_t line = 8 * j + lane_row(), pair = 8 * s + lane_pair();
      Half::multiply(sums[j][0], sums[j][1], sums[j][2], sums[j][3], rows.a[s][0], rows.a[s][1], rows.a[s][2],
                     rows.a[s][3], b.at(line, pair), b.at(line, pair + 4));
    }
  }
}

// The place of a lane's sum i in its columns of eight, and which of its two rows it belongs to.
__device__ inline uint32_t column_of(uint32_t j, uint32_t i) { return 8 * j + 2 * lane_pair() + i % 2; }
__device__ inline uint32_t row_of(uint32_t i) { return first_row() + lane_row() + i / 2 * 8; }

// The warp's rows of sums, each multiplied by the factor of the lane's first or second row.
template <class Half, uint32_t width>
__device__ void put_rows(const AttentionShape& p, uint32_t token, uint32_t column, const float (&sums)[width / 8][4],
                         const float (&factors)[2], void* tensor, const Tokens& tokens) {
#pragma unroll
  for (uint32_t j = 0; j < width / 8; ++j) {
#pragma unroll
    for (uint32_t r = 0; r < 2; ++r) {
      const uint32_t row = token + row_of(2 * r), dimension = column + column_of(j, 0);
      if (row >= p.context || dimension >= p.head_size) continue;
      const uint32_t pair = Half::pack(sums[j][2 * r] * factors[r], sums[j][2 * r + 1] * factors[r]);
      uint16_t* const to = static_cast<uint16_t*>(tensor) + tokens.first + row * tokens.row + dimension;
      if (p.aligned) {
        *reinterpret_cast<uint32_t*>(to) = pair;
      } else {
        to[0] = static_cast<uint16_t>(pair);
        if (dimension + 1 < p.head_size) to[1] = static_cast<uint16_t>(pair >> 16);
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
  x = larger(__shfl_xor_sync(all_lanes, x, 1), x);
  return larger(__shfl_xor_sync(all_lanes, x, 2), x);
}

// The largest score of each of the lane's two rows so far, and its share of the sum of their exponentials.
struct Softmax {
  float highest[2], sum[2];
};

// Scores become exponentials; factors: by which those of earlier keys must be multiplied.
template <uint32_t keys>
__device__ void add_scores(Softmax& softmax, float (&scores)[keys / 8][4], float (&factors)[2], uint32_t query,
                           uint32_t key, float scale) {
  float highest[2] = {softmax.highest[0], softmax.highest[1]};
#pragma unroll
  for (uint32_t j = 0; j < keys / 8; ++j) {
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) {
      const bool hidden = key + column_of(j, i) > query + row_of(i);
      scores[j][i] = hidden ? -infinity() : scores[j][i] * scale;
      highest[i / 2] = larger(scores[j][i], highest[i / 2]);
    }
  }
#pragma unroll
  for (uint32_t r = 0; r < 2; ++r) {
    highest[r] = quad_maximum(highest[r]);
    factors[r] = exp(softmax.highest[r] - highest[r]);
    softmax.sum[r] = softmax.sum[r] * factors[r];
    softmax.highest[r] = highest[r];
  }
#pragma unroll
  for (uint32_t j = 0; j < keys / 8; ++j) {
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) {
      scores[j][i] = exp(scores[j][i] - highest[i / 2]);
      softmax.sum[i / 2] = softmax.sum[i / 2] + scores[j][i];
    }
  }
}

template <uint32_t width>
struct ForwardWords {
  static constexpr uint32_t keys = attention_tile;
  Words<keys, width> k;
  Words<width, keys> v;
};

template <class Half, uint32_t width>
__device__ void forward(const AttentionForwardArgs& args, ForwardWords<width>& shared) {
  constexpr uint32_t keys = ForwardWords<width>::keys;
  const AttentionShape& p = args.shape;
  TokenTile at = tile_of_block(p, width);
  at.token = (p.tiles - 1) * attention_tile - at.token;  // the longest rows first
  const Head head = head_of(p, at.head / p.heads, at.head % p.heads);
  const Source k = source_of(p, p.qkv, head.k), v = source_of(p, p.qkv, head.v);
  Rows<width> q;
  load_rows(q, source_of(p, p.qkv, head.q), at.token);

  Softmax softmax = {{-infinity(), -infinity()}, {0.0f, 0.0f}};
  float out[width / 8][4];
  clear(out);
#pragma unroll 1
  for (uint32_t key = 0; key <= at.token; key += keys) {
    __syncthreads();
    for_each_pair<keys, width>(k, key,
                               [&](uint32_t pair, uint32_t dimension, const FourHalves& x, const FourHalves& y) {
                                 put_by_token(shared.k, pair, dimension, x, y);
                               });
    for_each_pair<keys, width>(v, key,
                               [&](uint32_t pair, uint32_t dimension, const FourHalves& x, const FourHalves& y) {
                                 put_by_dimension(shared.v, 0, pair, dimension, x, y);
                               });
    __syncthreads();
    float scores[keys / 8][4], factors[2];
    clear(scores);
    multiply<Half>(scores, q, shared.k);
    add_scores<keys>(softmax, scores, factors, at.token, key, p.scale);
#pragma unroll
    for (uint32_t j = 0; j < width / 8; ++j) {
#pragma unroll
      for (uint32_t i = 0; i < 4; ++i) out[j][i] = out[j][i] * factors[i / 2];
    }
    Rows<keys> weights;
    to_rows<Half>(weights, scores);
    multiply<Half>(out, weights, shared.v);
  }
  float inverse[2];
#pragma unroll
  for (uint32_t r = 0; r < 2; ++r) inverse[r] = 1.0f / quad_sum(softmax.sum[r]);
  put_rows<Half, width>(p, at.token, 0, out, inverse, args.out, head.out);
#pragma unroll
  for (uint32_t r = 0; r < 2; ++r) {
    const uint32_t row = at.token + row_of(2 * r);
    if (lane_pair() != 0 || row >= p.context) continue;
    args.row_max[head.query + row] = softmax.highest[r];
    args.inverse_sum[head.query + row] = inverse[r];
  }
}

// What the backward pass needs of so many queries.
template <uint32_t count>
struct Queries {
  float row_max[count], inverse_sum[count], row_product[count];  // row_product is D of the docs
};

// Those from `query` on, four lanes to a query; a barrier must follow. Of queries that do not exist the weights become
// 0.
template <class Half, uint32_t count>
__device__ void load_queries(Queries<count>& queries, const AttentionBackwardArgs& args, const Head& head,
                             uint32_t query) {
  const AttentionShape& p = args.shape;
  const Source out = source_of(p, args.out, head.out), dout = source_of(p, args.dout, head.out);
#pragma unroll 1
  for (uint32_t row = threadIdx.x / 4; row < count; row += threads / 4) {
    float product = 0.0f;
    for (uint32_t d = 4 * lane_pair(); d < p.head_size; d += 16) {
      const Vector4 x = values_of<Half>(out.four(query + row, d)), dx = values_of<Half>(dout.four(query + row, d));
#pragma unroll
      for (uint32_t i = 0; i < 4; ++i) product = __fmaf_rn(dx.x[i], x.x[i], product);
    }
    product = quad_sum(product);
    if (lane_pair() != 0) continue;
    const bool inside = query + row < p.context;
    queries.row_max[row] = inside ? p.row_max[head.query + query + row] : 0.0f;
    queries.inverse_sum[row] = inside ? p.inverse_sum[head.query + query + row] : 0.0f;
    queries.row_product[row] = product;
  }
}

// How many tokens a backward kernel walks over at once: registers and shared memory set the limit.
__device__ constexpr uint32_t step_of(uint32_t width) { return width <= 64 ? 64 : 32; }

template <uint32_t width>
struct BackwardQueriesWords {
  static constexpr uint32_t keys = step_of(width);
  Words<keys, width> k, v;
  Words<width, keys> k_by_dimension;
  Queries<attention_tile> queries;
};

template <class Half, uint32_t width>
__device__ void backward_queries(const AttentionBackwardArgs& args, BackwardQueriesWords<width>& shared) {
  constexpr uint32_t keys = BackwardQueriesWords<width>::keys;
  const AttentionShape& p = args.shape;
  TokenTile at = tile_of_block(p, width);
  at.token = (p.tiles - 1) * attention_tile - at.token;  // the longest rows first
  const Head head = head_of(p, at.head / p.heads, at.head % p.heads);
  const Source k = source_of(p, p.qkv, head.k), v = source_of(p, p.qkv, head.v);
  Rows<width> q, dout;
  load_rows(q, source_of(p, p.qkv, head.q), at.token);
  load_rows(dout, source_of(p, args.dout, head.out), at.token);
  load_queries<Half>(shared.queries, args, head, at.token);

  float dq[width / 8][4];
  clear(dq);
#pragma unroll 1
  for (uint32_t key = 0; key < at.token + attention_tile; key += keys) {
    __syncthreads();
    for_each_pair<keys, width>(k, key,
                               [&](uint32_t pair, uint32_t dimension, const FourHalves& x, const FourHalves& y) {
                                 put_by_token(shared.k, pair, dimension, x, y);
                                 put_by_dimension(shared.k_by_dimension, 0, pair, dimension, x, y);
                               });
    for_each_pair<keys, width>(v, key,
                               [&](uint32_t pair, uint32_t dimension, const FourHalves& x, const FourHalves& y) {
                                 put_by_token(shared.v, pair, dimension, x, y);
                               });
    __syncthreads();
    float scores[keys / 8][4], products[keys / 8][4];
    clear(scores);
    clear(products);
    multiply<Half>(scores, q, shared.k);
    multiply<Half>(products, dout, shared.v);
#pragma unroll
    for (uint32_t j = 0; j < keys / 8; ++j) {
#pragma unroll
      for (uint32_t i = 0; i < 4; ++i) {
        const uint32_t row = row_of(i);
        const bool hidden = key + column_of(j, i) > at.token + row;
        const float weight =
            exp(scores[j][i] * p.scale - shared.queries.row_max[row]) * shared.queries.inverse_sum[row];
        scores[j][i] = hidden ? 0.0f : weight * (products[j][i] - shared.queries.row_product[row]);
      }
    }
    Rows<keys> dscores;
    to_rows<Half>(dscores, scores);
    multiply<Half>(dq, dscores, shared.k_by_dimension);
  }
  put_rows<Half, width>(p, at.token, 0, dq, {p.scale, p.scale}, args.dqkv, head.q);
}

// A block has so many of a head's dimensions that the sums of both gradients fit the registers.
constexpr uint32_t slice = flash_slice;

template <uint32_t width>
struct BackwardKeysWords {
  static constexpr uint32_t queries = step_of(width);
  Words<queries, width> q, dout;
  Words<slice, queries> q_by_dimension, dout_by_dimension;
  Queries<queries> of_queries;
};

template <class Half, uint32_t width>
__device__ void backward_keys(const AttentionBackwardArgs& args, BackwardKeysWords<width>& shared) {
  constexpr uint32_t queries = BackwardKeysWords<width>::queries;
  const AttentionShape& p = args.shape;
  const TokenTile at = tile_of_block(p, slice);
  const uint32_t group = p.heads / p.kv_heads, sequence = at.head / p.kv_heads, kv_head = at.head % p.kv_heads;
  const Head first = head_of(p, sequence, kv_head * group);
  Rows<width> k, v;
  load_rows(k, source_of(p, p.qkv, first.k), at.token);
  load_rows(v, source_of(p, p.qkv, first.v), at.token);

  float dk[slice / 8][4], dv[slice / 8][4];
  clear(dk);
  clear(dv);
#pragma unroll 1
  for (uint32_t member = 0; member < group; ++member) {
    const Head head = head_of(p, sequence, kv_head * group + member);
    const Source q = source_of(p, p.qkv, head.q), dout = source_of(p, args.dout, head.out);
#pragma unroll 1
    for (uint32_t query = at.token; query < p.context; query += queries) {
      __syncthreads();
      load_queries<Half>(shared.of_queries, args, head, query);
      for_each_pair<queries, width>(q, query,
                                    [&](uint32_t pair, uint32_t dimension, const FourHalves& x, const FourHalves& y) {
                                      put_by_token(shared.q, pair, dimension, x, y);
                                      put_by_dimension(shared.q_by_dimension, at.column, pair, dimension, x, y);
                                    });
      for_each_pair<queries, width>(dout, query,
                                    [&](uint32_t pair, uint32_t dimension, const FourHalves& x, const FourHalves& y) {
                                      put_by_token(shared.dout, pair, dimension, x, y);
                                      put_by_dimension(shared.dout_by_dimension, at.column, pair, dimension, x, y);
                                    });
      __syncthreads();
      float weights[queries / 8][4], products[queries / 8][4];
      clear(weights);
      multiply<Half>(weights, k, shared.q);
#pragma unroll
      for (uint32_t j = 0; j < queries / 8; ++j) {
#pragma unroll
        for (uint32_t i = 0; i < 4; ++i) {
          const uint32_t column = column_of(j, i);
          const bool hidden = at.token + row_of(i) > query + column;
          const float weight =
              exp(weights[j][i] * p.scale - shared.of_queries.row_max[column]) * shared.of_queries.inverse_sum[column];
          weights[j][i] = hidden ? 0.0f : weight;
        }
      }
      Rows<queries> rows;
      to_rows<Half>(rows, weights);
      multiply<Half>(dv, rows, shared.dout_by_dimension);
      clear(products);
      multiply<Half>(products, v, shared.dout);
#pragma unroll
      for (uint32_t j = 0; j < queries / 8; ++j) {
#pragma unroll
        for (uint32_t i = 0; i < 4; ++i)
          weights[j][i] = weights[j][i] * (products[j][i] - shared.of_queries.row_product[column_of(j, i)]);
      }
      to_rows<Half>(rows, weights);
      multiply<Half>(dk, rows, shared.q_by_dimension);
    }
  }
  put_rows<Half, slice>(p, at.token, at.column, dk, {p.scale, p.scale}, args.dqkv, first.k);
  put_rows<Half, slice>(p, at.token, at.column, dv, {1.0f, 1.0f}, args.dqkv, first.v);
}

}  // namespace

// Names have the largest head size, then what the operands are rounded to.
#define FLASH_ATTENTION_KERNEL(name, Args, Shared, width, Half, function)          \
  extern "C" __global__ __launch_bounds__(threads, 2) void name(const Args args) { \
    static __shared__ Shared<width> shared;                                        \
    function<Half, width>(args, shared);                                           \
  }
#define FLASH_ATTENTION(width, suffix, Half)                                                                       \
  FLASH_ATTENTION_KERNEL(flash_attention_forward_##width##suffix, AttentionForwardArgs, ForwardWords, width, Half, \
                         forward)                                                                                  \
  FLASH_ATTENTION_KERNEL(flash_attention_backward_queries_##width##suffix, AttentionBackwardArgs,                  \
                         BackwardQueriesWords, width, Half, backward_queries)                                      \
  FLASH_ATTENTION_KERNEL(flash_attention_backward_keys_##width##suffix, AttentionBackwardArgs, BackwardKeysWords,  \
                         width, Half, backward_keys)

#define FLASH_ATTENTION_OF_HALVES(suffix, Half) FLASH_ATTENTION(64, suffix, Half) FLASH_ATTENTION(128, suffix, Half)

FOR_HALVES(FLASH_ATTENTION_OF_HALVES)

}  // namespace kernels::cuda
