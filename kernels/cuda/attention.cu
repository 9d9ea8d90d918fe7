// Causal attention (docs/numerics.md section 5) by tiles of 64 tokens; the T x T matrix is never stored. A block owns a
// tile of queries, or of keys, and walks upward over the tiles of the other. A tile of scores is a product over the
// head's dimensions; what becomes of it goes to shared memory, and a second product over its 64 terms extends the
// chains of the output. 256 threads, of which each owns 4 x 4 scores and 4 x width / 16 outputs.
#include "cuda/attention_heads.cuh"
#include "cuda/elementary.cuh"
#include "cuda/reduce.cuh"
#include "cuda/tile.cuh"

namespace kernels::cuda {
namespace {

constexpr uint32_t tile = attention_tile, threads = attention_threads, depth = 16, across = 16;
constexpr uint32_t warps = threads / 32, warp_rows = tile / warps;

__device__ constexpr uint32_t wider(uint32_t width) { return width > tile ? width : tile; }

template <uint32_t width>
struct Shared {
  alignas(16) float weights[tile * slice_row(tile)];  // a slice of `tile` terms: what the second product takes
  alignas(16) float a[depth * slice_row(tile)];
  alignas(16) float b[depth * slice_row(wider(width))];
  float row_max[tile], inverse_sum[tile], row_product[tile];  // of the tile's queries; row_product is D of the docs
  Head head;
};

// The head that the block goes on with, from now on. A thread reads its offsets where it needs them: in registers, they
// would keep a multiprocessor from having two blocks.
template <uint32_t width>
__device__ const Head& put_head(Shared<width>& shared, const Head& head) {
  __syncthreads();
  if (threadIdx.x == 0) shared.head = head;
  __syncthreads();
  return shared.head;
}

// Tokens as lines of dimensions, for a product over those.
__device__ inline Operand by_token(const AttentionShape& p, const void* tensor, const Tokens& tokens) {
  return {static_cast<const float*>(tensor) + tokens.first, tokens.row, p.context, p.head_size, p.aligned != 0};
}

// Dimensions as lines of tokens, for a product over those.
__device__ inline Operand by_dimension(const AttentionShape& p, const void* tensor, const Tokens& tokens) {
  return {static_cast<const float*>(tensor) + tokens.first, tokens.row, p.head_size, p.context, p.aligned != 0};
}

// products[i][j] = contraction over the head's dimensions, one chunk, of a's and b's lines of this thread. Begins and
// goes on with a barrier: what was read before may be overwritten, what was written before may be read.
template <uint32_t width>
__device__ void contract(float (&products)[4][4], const Operand& a, uint32_t a_line, const Operand& b, uint32_t b_line,
                         Shared<width>& shared) {
  SliceLoad<tile, depth, threads, true> next_a(a, a_line, 0), next_b(b, b_line, 0);
  clear(products);
  next_a.load(a.terms);
  next_b.load(a.terms);
  for (uint32_t term = 0; term < a.terms; term += depth) {
    __syncthreads();
    next_a.store(shared.a);
    next_b.store(shared.b);
    __syncthreads();
    next_a.load(left(term + depth, a.terms));
    next_b.load(left(term + depth, a.terms));
    multiply_slices<depth, tile, tile>(products, shared.a, shared.b);
  }
#pragma unroll
  for (uint32_t i = 0; i < 4; ++i) {
#pragma unroll
    for (uint32_t j = 0; j < 4; ++j) products[i][j] = 0.0f + products[i][j];  // the chunk's total
  }
}

// The chains of the thread's outputs go on through the weights' 64 terms, x's terms from `term` on. Barriers as above.
template <uint32_t width>
__device__ void extend(float (&sums)[4][width / across], const Operand& x, uint32_t column, uint32_t term,
                       Shared<width>& shared) {
  SliceLoad<width, depth, threads, false> next(x, column, term);
  next.load(left(term, x.terms));
#pragma unroll 1
  for (uint32_t t = 0; t < tile; t += depth) {
    __syncthreads();
    next.store(shared.b);
    __syncthreads();
    if (t + depth < tile) next.load(left(term + t + depth, x.terms));
    multiply_slices<depth, tile, width>(sums, shared.weights + t * slice_row(tile), shared.b);
  }
}

__device__ inline uint32_t thread_row() { return threadIdx.x / across * 4; }
__device__ inline uint32_t thread_column() { return threadIdx.x % across * 4; }

// The thread's four lines of its term j.
template <uint32_t width>
__device__ Vector4* weights_of_thread(Shared<width>& shared, uint32_t j) {
  return reinterpret_cast<Vector4*>(shared.weights + (thread_column() + j) * slice_row(tile) + thread_row());
}

// The thread's 4 x 4 scores become weights: lines are a's, terms are b's.
template <uint32_t width>
__device__ void put_weights(const float (&x)[4][4], Shared<width>& shared) {
#pragma unroll
  for (uint32_t j = 0; j < 4; ++j) *weights_of_thread(shared, j) = {{x[0][j], x[1][j], x[2][j], x[3][j]}};
}

// A chunk's chains are added to the outputs, which are the totals until they are multiplied by factor(row of the tile)
// at the end; or, where it is the first, are the totals.
template <uint32_t width, class Factor>
__device__ void add_outputs(const AttentionShape& p, const TokenTile& at, const float (&sums)[4][width / across],
                            void* outputs, const Tokens& tokens, bool first, Factor factor) {
  const bool aligned = p.aligned != 0;
#pragma unroll
  for (uint32_t i = 0; i < 4; ++i) {
    const uint32_t row = thread_row() + i;
    if (at.token + row >= p.context) continue;
    const float f = factor(row);
#pragma unroll
    for (uint32_t j = 0; j < width / across; j += 4) {
      const uint32_t column = at.column + line_of_thread<width, width / across>(threadIdx.x % across, j);
      const uint32_t inside = left(column, p.head_size);
      float* to = static_cast<float*>(outputs) + tokens.first + (at.token + row) * tokens.row + column;
      Vector4 y = first ? Vector4{{0.0f, 0.0f, 0.0f, 0.0f}} : load4(to, inside, aligned);
      y = y + Vector4{{sums[i][j], sums[i][j + 1], sums[i][j + 2], sums[i][j + 3]}};
      store4(to, {{y.x[0] * f, y.x[1] * f, y.x[2] * f, y.x[3] * f}}, inside, aligned);
    }
  }
}

__device__ inline bool masked(const AttentionShape& p, uint32_t query, uint32_t key) {
  return key > query || query >= p.context;
}

// The largest score of each of the thread's rows of queries.
template <uint32_t width>
__device__ void find_row_max(float (&highest)[4], const AttentionShape& p, uint32_t query, Shared<width>& shared) {
#pragma unroll
  for (uint32_t i = 0; i < 4; ++i) highest[i] = -infinity();
  for (uint32_t key = 0; key <= query; key += tile) {
    float s[4][4];
    contract(s, by_token(p, p.qkv, shared.head.q), query, by_token(p, p.qkv, shared.head.k), key, shared);
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) {
#pragma unroll
      for (uint32_t j = 0; j < 4; ++j) {
        const bool hidden = masked(p, query + thread_row() + i, key + thread_column() + j);
        if (!hidden) highest[i] = larger(s[i][j] * p.scale, highest[i]);
      }
    }
  }
#pragma unroll
  for (uint32_t i = 0; i < 4; ++i) {
#pragma unroll
    for (uint32_t lanes = across / 2; lanes > 0; lanes /= 2) {
      highest[i] = larger(__shfl_xor_sync(all_lanes, highest[i], lanes), highest[i]);
    }
  }
}

// The row sums of the weights, as they come tile by tile: a warp sums warp_rows rows, its lanes as section 3 says.
struct RowSums {
  float lanes[warp_rows];

  __device__ static uint32_t first_row() { return threadIdx.x / 32 * warp_rows; }

  // The weights of 64 keys; all must have been written.
  __device__ void add(const float* weights) {
#pragma unroll
    for (uint32_t term = lane(); term < tile; term += 32) {
#pragma unroll
      for (uint32_t i = 0; i < warp_rows; i += 4) {
        const Vector4 v = *reinterpret_cast<const Vector4*>(weights + term * slice_row(tile) + first_row() + i);
#pragma unroll
        for (uint32_t j = 0; j < 4; ++j) lanes[i + j] = lanes[i + j] + v.x[j];
      }
    }
  }

  // Adds the lanes of a segment, also the last, to the rows' totals.
  __device__ void end_segment(float* totals) {
#pragma unroll
    for (uint32_t i = 0; i < warp_rows; ++i) {
      const float sum = warp_sum(lanes[i]);
      if (lane() == 0) totals[first_row() + i] = totals[first_row() + i] + sum;
      lanes[i] = 0.0f;
    }
  }
};

template <uint32_t width>
__device__ void forward(const AttentionForwardArgs& args, Shared<width>& shared) {
  const AttentionShape& p = args.shape;
  TokenTile at = tile_of_block(p, width);
  at.token = (p.tiles - 1) * tile - at.token;  // the longest rows first
  const Head& head = put_head(shared, head_of(p, at.head / p.heads, at.head % p.heads));
  float highest[4];
  find_row_max(highest, p, at.token, shared);
  if (threadIdx.x < tile) shared.inverse_sum[threadIdx.x] = 0.0f;  // the sum itself until the end
  float sums[4][width / across];
  clear(sums);
  RowSums row_sums = {};
  for (uint32_t key = 0; key <= at.token; key += tile) {
    float s[4][4];
    contract(s, by_token(p, p.qkv, head.q), at.token, by_token(p, p.qkv, head.k), key, shared);
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) {
#pragma unroll
      for (uint32_t j = 0; j < 4; ++j) {
        const bool hidden = masked(p, at.token + thread_row() + i, key + thread_column() + j);
        s[i][j] = hidden ? 0.0f : exp(s[i][j] * p.scale - highest[i]);
      }
    }
    put_weights(s, shared);
    extend(sums, by_dimension(p, p.qkv, head.v), at.column, key, shared);
    row_sums.add(shared.weights);
    if ((key + tile) % segment_elements == 0) row_sums.end_segment(shared.inverse_sum);
    if ((key + tile) % chunk_terms == 0 && key < at.token) {
      add_outputs<width>(p, at, sums, args.out, head.out, key < chunk_terms, [](uint32_t) { return 1.0f; });
      clear(sums);
    }
  }
  row_sums.end_segment(shared.inverse_sum);
  if (threadIdx.x % across == 0) {
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) shared.row_max[thread_row() + i] = highest[i];
  }
  __syncthreads();
  if (threadIdx.x < tile) shared.inverse_sum[threadIdx.x] = 1.0f / shared.inverse_sum[threadIdx.x];
  __syncthreads();
  add_outputs<width>(p, at, sums, args.out, head.out, at.token < chunk_terms,
                     [&](uint32_t row) { return shared.inverse_sum[row]; });
  if (at.column == 0 && threadIdx.x < left(at.token, p.context) && threadIdx.x < tile) {
    args.row_max[head.query + at.token + threadIdx.x] = shared.row_max[threadIdx.x];
    args.inverse_sum[head.query + at.token + threadIdx.x] = shared.inverse_sum[threadIdx.x];
  }
}

// D of the 64 queries of a tile, into shared memory and, once, for backward_keys(); a barrier must follow.
template <uint32_t width>
__device__ void find_row_products(const AttentionBackwardArgs& args, const Head& head, const TokenTile& at,
                                  Shared<width>& shared) {
  const AttentionShape& p = args.shape;
  const float *out = static_cast<const float*>(args.out), *dout = static_cast<const float*>(args.dout);
  for (uint32_t i = 0; i < warp_rows; ++i) {
    const uint32_t row = threadIdx.x / 32 * warp_rows + i;
    if (at.token + row >= p.context) break;  // the whole warp
    const uint64_t first = head.out.first + (at.token + row) * head.out.row;
    const float product = row_sum(p.head_size, [&](uint32_t d) { return dout[first + d] * out[first + d]; });
    if (lane() != 0) continue;
    shared.row_product[row] = product;
    if (at.column == 0) args.row_products[head.query + at.token + row] = product;
  }
}

// What the forward pass left of the 64 queries from `query` on, into shared memory; a barrier must follow.
template <uint32_t width>
__device__ void load_statistics(const AttentionShape& p, const Head& head, uint32_t query, Shared<width>& shared) {
  if (threadIdx.x >= tile || threadIdx.x >= left(query, p.context)) return;
  const uint64_t at = head.query + query + threadIdx.x;
  shared.row_max[threadIdx.x] = p.row_max[at];
  shared.inverse_sum[threadIdx.x] = p.inverse_sum[at];
}

// D likewise, which backward_queries() has found.
template <uint32_t width>
__device__ void load_row_products(const AttentionBackwardArgs& args, const Head& head, uint32_t query,
                                  Shared<width>& shared) {
  if (threadIdx.x >= tile || threadIdx.x >= left(query, args.shape.context)) return;
  shared.row_product[threadIdx.x] = args.row_products[head.query + query + threadIdx.x];
}

// P of section 5 from the score of query number `row` of the tile.
template <uint32_t width>
__device__ float weight(const AttentionShape& p, float score, uint32_t row, const Shared<width>& shared) {
  return exp(score * p.scale - shared.row_max[row]) * shared.inverse_sum[row];
}

template <uint32_t width>
__device__ void backward_queries(const AttentionBackwardArgs& args, Shared<width>& shared) {
  const AttentionShape& p = args.shape;
  TokenTile at = tile_of_block(p, width);
  at.token = (p.tiles - 1) * tile - at.token;  // the longest rows first
  const Head& head = put_head(shared, head_of(p, at.head / p.heads, at.head % p.heads));
  find_row_products(args, head, at, shared);
  load_statistics(p, head, at.token, shared);
  float sums[4][width / across];
  clear(sums);
  for (uint32_t key = 0; key <= at.token; key += tile) {
    float x[4][4];
    contract(x, by_token(p, p.qkv, head.q), at.token, by_token(p, p.qkv, head.k), key, shared);
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) {
#pragma unroll
      for (uint32_t j = 0; j < 4; ++j) x[i][j] = weight(p, x[i][j], thread_row() + i, shared);
    }
    put_weights(x, shared);  // out of the registers; no other thread reads them
    contract(x, by_token(p, args.dout, head.out), at.token, by_token(p, p.qkv, head.v), key, shared);
#pragma unroll
    for (uint32_t j = 0; j < 4; ++j) {
      const Vector4 weights = *weights_of_thread(shared, j);
#pragma unroll
      for (uint32_t i = 0; i < 4; ++i) {
        const uint32_t row = thread_row() + i;
        const bool hidden = masked(p, at.token + row, key + thread_column() + j);
        x[i][j] = hidden ? 0.0f : weights.x[i] * (x[i][j] - shared.row_product[row]);
      }
    }
    put_weights(x, shared);
    extend(sums, by_dimension(p, p.qkv, head.k), at.column, key, shared);
    if ((key + tile) % chunk_terms == 0 && key < at.token) {
      add_outputs<width>(p, at, sums, args.dqkv, head.q, key < chunk_terms, [](uint32_t) { return 1.0f; });
      clear(sums);
    }
  }
  add_outputs<width>(p, at, sums, args.dqkv, head.q, at.token < chunk_terms, [&](uint32_t) { return p.scale; });
}

// one_chunk: of queries, which saves the registers of the totals.
template <uint32_t width, bool one_chunk>
__device__ void backward_keys(const AttentionBackwardArgs& args, Shared<width>& shared) {
  const AttentionShape& p = args.shape;
  const TokenTile at = tile_of_block(p, width);
  const uint32_t group = p.heads / p.kv_heads, sequence = at.head / p.kv_heads;
  for (uint32_t member = 0; member < group; ++member) {
    const Head& head = put_head(shared, head_of(p, sequence, at.head % p.kv_heads * group + member));
    float dk[4][width / across], dv[4][width / across], dk_totals[4][width / across], dv_totals[4][width / across];
    clear(dk);
    clear(dv);
    clear(dk_totals);
    clear(dv_totals);
    // Queries before the tile's keys contribute exact zeros.
    for (uint32_t query = at.token; query < p.context; query += tile) {
      load_statistics(p, head, query, shared);
      load_row_products(args, head, query, shared);
      float x[4][4];
      contract(x, by_token(p, p.qkv, head.k), at.token, by_token(p, p.qkv, head.q), query, shared);
#pragma unroll
      for (uint32_t i = 0; i < 4; ++i) {
#pragma unroll
        for (uint32_t j = 0; j < 4; ++j) {
          const uint32_t row = thread_column() + j;
          const bool hidden = masked(p, query + row, at.token + thread_row() + i);
          x[i][j] = hidden ? 0.0f : weight(p, x[i][j], row, shared);
        }
      }
      put_weights(x, shared);
      extend(dv, by_dimension(p, args.dout, head.out), at.column, query, shared);
      contract(x, by_token(p, p.qkv, head.v), at.token, by_token(p, args.dout, head.out), query, shared);
#pragma unroll
      for (uint32_t j = 0; j < 4; ++j) {
        const uint32_t row = thread_column() + j;
        const Vector4 weights = *weights_of_thread(shared, j);
#pragma unroll
        for (uint32_t i = 0; i < 4; ++i) {
          const bool hidden = masked(p, query + row, at.token + thread_row() + i);
          x[i][j] = hidden ? 0.0f : weights.x[i] * (x[i][j] - shared.row_product[row]);
        }
      }
      put_weights(x, shared);
      extend(dk, by_dimension(p, p.qkv, head.q), at.column, query, shared);
      if (!one_chunk && (query + tile) % chunk_terms == 0) {
        end_chunk(dk_totals, dk);
        end_chunk(dv_totals, dv);
      }
    }
    end_chunk(dk_totals, dk);
    end_chunk(dv_totals, dv);
    // The heads' totals are added as chunks are elsewhere.
    const bool first = member == 0, last = member + 1 == group;
    add_outputs<width>(p, at, dk_totals, args.dqkv, head.k, first, [&](uint32_t) { return last ? p.scale : 1.0f; });
    add_outputs<width>(p, at, dv_totals, args.dqkv, head.v, first, [](uint32_t) { return 1.0f; });
  }
}

}  // namespace

// A multiprocessor's blocks of attention_backward_keys_64. Before 7.0 two would spill registers.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 700
constexpr uint32_t keys_blocks = 1;
#else
constexpr uint32_t keys_blocks = 2;
#endif

// Names have the number of dimensions that a block's outputs have. _long: of any context, not of one chunk at most.
#define ATTENTION(name, Args, blocks, width, function)                                  \
  extern "C" __global__ __launch_bounds__(threads, blocks) void name(const Args args) { \
    static __shared__ Shared<width> shared;                                             \
    function(args, shared);                                                             \
  }
ATTENTION(attention_forward_64, AttentionForwardArgs, 2, 64, forward)
ATTENTION(attention_forward_128, AttentionForwardArgs, 2, 128, forward)
ATTENTION(attention_backward_queries_64, AttentionBackwardArgs, 2, 64, backward_queries)
ATTENTION(attention_backward_queries_128, AttentionBackwardArgs, 2, 128, backward_queries)
ATTENTION(attention_backward_keys_64, AttentionBackwardArgs, keys_blocks, 64, (backward_keys<64, true>))
ATTENTION(attention_backward_keys_128, AttentionBackwardArgs, 1, 128, (backward_keys<128, true>))
ATTENTION(attention_backward_keys_64_long, AttentionBackwardArgs, 1, 64, (backward_keys<64, false>))

}  // namespace kernels::cuda
