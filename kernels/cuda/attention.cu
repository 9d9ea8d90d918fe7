// Causal attention (docs/numerics.md section 5) by tiles of 64 tokens; the T x T matrix is never stored. A block owns a
// tile of queries, or of keys, and walks upward over the tiles of the other. A tile of scores is a product over the
// head's dimensions; what becomes of it goes to shared memory, and a second product over its 64 terms extends the
// chains of the output. Of 128 threads each owns 8 x 4 scores and 8 x width / 16 outputs, of 256 half as many rows,
// where that would be too many registers.
#include "cuda/attention_heads.cuh"
#include "cuda/elementary.cuh"
#include "cuda/reduce.cuh"
#include "cuda/tile.cuh"

namespace kernels::cuda {
namespace {

constexpr uint32_t tile = attention_tile, across = 16;

// What a thread has of a tile's scores, and of its outputs of `width` dimensions.
template <uint32_t threads>
constexpr uint32_t rows = (tile * across) / threads;
template <uint32_t threads>
using Scores = float[rows<threads>][tile / across];
template <uint32_t width, uint32_t threads>
using Outputs = float[rows<threads>][width / across];

// Terms of a slice of 64 lines: a thread has four neighbours of it.
template <uint32_t threads>
constexpr uint32_t depth = 4 * threads / tile;

template <uint32_t width, uint32_t threads>
struct Shared {
  static constexpr uint32_t wider = width > tile ? width : tile;
  alignas(16) float weights[tile * slice_row(tile)];  // a slice of `tile` terms: what the second product takes
  alignas(16) float a[2][depth<threads> * slice_row(tile)];
  alignas(16) float b[2][depth<threads> * slice_row(wider)];
  float row_max[tile], inverse_sum[tile], row_product[tile];  // of the tile's queries; row_product is D of the docs
  Head head;
};

// The head that the block goes on with, from now on. A thread reads its offsets where it needs them: in registers, they
// would keep a multiprocessor from having more blocks.
template <uint32_t width, uint32_t threads>
__device__ const Head& put_head(Shared<width, threads>& shared, const Head& head) {
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

// products[i][j] = contraction over the head's dimensions, one chunk, of a's and b's lines of this thread. There is a
// barrier after what was written before, and after the last read of shared memory.
template <uint32_t width, uint32_t threads>
__device__ void contract(Scores<threads>& products, const Operand& a, uint32_t a_line, const Operand& b,
                         uint32_t b_line, Shared<width, threads>& shared) {
  SliceLoad<tile, depth<threads>, threads, true> next_a(a, a_line, 0), next_b(b, b_line, 0);
  const ThreadPlace place = thread_place<across>();
  const bool whole = next_a.whole() && next_b.whole() && a.terms % depth<threads> == 0;
  const auto load = [&](uint32_t term) {
    if (whole) {
      next_a.load_whole();
      next_b.load_whole();
    } else {
      next_a.load(left(term, a.terms));
      next_b.load(left(term, a.terms));
    }
  };
  const auto store = [&](uint32_t to) {
    next_a.store(shared.a[to]);
    next_b.store(shared.b[to]);
    __syncthreads();
  };
  clear(products);
  load(0);
  store(0);
#pragma unroll 1
  for (uint32_t term = 0, now = 0; term < a.terms; term += depth<threads>, now ^= 1) {
    if (term + depth<threads> < a.terms) load(term + depth<threads>);
    multiply_slices<depth<threads>, tile, tile>(products, place, shared.a[now], shared.b[now]);
    store(now ^ 1);
  }
#pragma unroll
  for (uint32_t i = 0; i < rows<threads>; ++i) {
#pragma unroll
    for (uint32_t j = 0; j < 4; ++j) products[i][j] = 0.0f + products[i][j];  // the chunk's total
  }
}

// The chains of the thread's outputs go on through the weights' 64 terms, x's terms from `term` on. Barriers as above.
template <uint32_t width, uint32_t threads>
__device__ void extend(Outputs<width, threads>& sums, const Operand& x, uint32_t column, uint32_t term,
                       Shared<width, threads>& shared) {
  SliceLoad<width, depth<threads>, threads, false> next(x, column, term);
  const ThreadPlace place = thread_place<across>();
  const bool whole = next.whole() && term + tile <= x.terms;
  const auto load = [&](uint32_t from) {
    if (whole)
      next.load_whole();
    else
      next.load(left(term + from, x.terms));
  };
  load(0);
  next.store(shared.b[0]);
  __syncthreads();
#pragma unroll 1
  for (uint32_t t = 0, now = 0; t < tile; t += depth<threads>, now ^= 1) {
    if (t + depth<threads> < tile) load(t + depth<threads>);
    multiply_slices<depth<threads>, tile, width>(sums, place, shared.weights + t * slice_row(tile), shared.b[now]);
    next.store(shared.b[now ^ 1]);
    __syncthreads();
  }
}

// In the tile, of the thread's rows and columns of scores.
template <uint32_t threads>
__device__ uint32_t thread_row(uint32_t i) {
  return line_of_thread<tile, rows<threads>>(thread_place<across>().row, i);
}
__device__ inline uint32_t thread_column(uint32_t j) { return thread_place<across>().column * 4 + j; }

// Four lines, rows i to i + 3 of the thread, of its term j.
template <uint32_t width, uint32_t threads>
__device__ Vector4* weights_of_thread(Shared<width, threads>& shared, uint32_t i, uint32_t j) {
  return reinterpret_cast<Vector4*>(shared.weights + thread_column(j) * slice_row(tile) + thread_row<threads>(i));
}

// The thread's scores become weights: lines are a's, terms are b's.
template <uint32_t width, uint32_t threads>
__device__ void put_weights(const Scores<threads>& x, Shared<width, threads>& shared) {
#pragma unroll
  for (uint32_t j = 0; j < 4; ++j) {
#pragma unroll
    for (uint32_t i = 0; i < rows<threads>; i += 4)
      *weights_of_thread(shared, i, j) = {{x[i][j], x[i + 1][j], x[i + 2][j], x[i + 3][j]}};
  }
}

// x = weights * (x - row product); row_product(i, j) is that of the score's query.
template <uint32_t width, uint32_t threads, class RowProduct>
__device__ void weigh(Scores<threads>& x, Shared<width, threads>& shared, RowProduct row_product) {
#pragma unroll
  for (uint32_t j = 0; j < 4; ++j) {
#pragma unroll
    for (uint32_t i = 0; i < rows<threads>; ++i) {
      const float weight = weights_of_thread(shared, i / 4 * 4, j)->x[i % 4];
      x[i][j] = weight * (x[i][j] - row_product(i, j));
    }
  }
}

// A chunk's chains are added to the outputs, which are the totals until they are multiplied by factor(row of the tile)
// at the end; or, where it is the first, are the totals.
template <uint32_t width, uint32_t threads, class Factor>
__device__ void add_outputs(const AttentionShape& p, const TokenTile& at, const Outputs<width, threads>& sums,
                            void* outputs, const Tokens& tokens, bool first, Factor factor) {
  const bool aligned = p.aligned != 0;
#pragma unroll
  for (uint32_t i = 0; i < rows<threads>; ++i) {
    const uint32_t row = thread_row<threads>(i);
    if (at.token + row >= p.context) continue;
    const float f = factor(row);
#pragma unroll
    for (uint32_t j = 0; j < width / across; j += 4) {
      const uint32_t column = at.column + line_of_thread<width, width / across>(thread_place<across>().column, j);
      const uint32_t inside = left(column, p.head_size);
      float* to = static_cast<float*>(outputs) + tokens.first + (at.token + row) * tokens.row + column;
      Vector4 y = first ? Vector4{{0.0f, 0.0f, 0.0f, 0.0f}} : load4(to, inside, aligned);
      y = y + Vector4{{sums[i][j], sums[i][j + 1], sums[i][j + 2], sums[i][j + 3]}};
      store4(to, {{y.x[0] * f, y.x[1] * f, y.x[2] * f, y.x[3] * f}}, inside, aligned);
    }
  }
}

// A tile of queries and one of keys, by their first.
struct Pair {
  uint32_t query, key;
};

// x = value where the key comes after the query, or there is no such query; few tiles have such scores. transposed:
// the rows are keys.
template <uint32_t threads>
__device__ void hide(Scores<threads>& x, float value, const AttentionShape& p, const Pair& at, bool transposed) {
  if (at.key + tile <= at.query && at.query + tile <= p.context) return;
#pragma unroll
  for (uint32_t i = 0; i < rows<threads>; ++i) {
#pragma unroll
    for (uint32_t j = 0; j < 4; ++j) {
      const uint32_t row = thread_row<threads>(i), column = thread_column(j);
      const uint32_t query = at.query + (transposed ? column : row), key = at.key + (transposed ? row : column);
      if (key > query || query >= p.context) x[i][j] = value;
    }
  }
}

// The largest score of each of the tile's queries into shared.row_max; a barrier must follow.
template <uint32_t width, uint32_t threads>
__device__ void find_row_max(const AttentionShape& p, uint32_t query, Shared<width, threads>& shared) {
  float highest[rows<threads>];
#pragma unroll
  for (uint32_t i = 0; i < rows<threads>; ++i) highest[i] = -infinity();
  for (uint32_t key = 0; key <= query; key += tile) {
    Scores<threads> s;
    contract(s, by_token(p, p.qkv, shared.head.q), query, by_token(p, p.qkv, shared.head.k), key, shared);
    hide<threads>(s, nan(), p, {query, key}, false);  // no number is larger or smaller than that
#pragma unroll
    for (uint32_t i = 0; i < rows<threads>; ++i) {
#pragma unroll
      for (uint32_t j = 0; j < 4; ++j) highest[i] = larger(s[i][j] * p.scale, highest[i]);
    }
  }
  float* const of_threads = shared.weights;  // which nobody needs yet
#pragma unroll
  for (uint32_t i = 0; i < rows<threads>; ++i)
    of_threads[thread_column(0) / 4 * tile + thread_row<threads>(i)] = highest[i];
  __syncthreads();
  if (threadIdx.x >= tile) return;
  float row_max = -infinity();
  for (uint32_t column = 0; column < across; ++column)
    row_max = larger(of_threads[column * tile + threadIdx.x], row_max);
  shared.row_max[threadIdx.x] = row_max;
}

// Whose sums a warp forms.
template <uint32_t threads>
constexpr uint32_t sum_rows = tile / (threads / warp_lanes);

// The row sums of the weights, as they come tile by tile; a warp's lanes add as section 3 says.
template <uint32_t threads>
struct RowSums {
  float lanes[sum_rows<threads>];

  __device__ static uint32_t first_row() { return threadIdx.x / 32 * sum_rows<threads>; }

  // The weights of 64 keys; all must have been written.
  __device__ void add(const float* weights) {
#pragma unroll
    for (uint32_t term = lane(); term < tile; term += 32) {
#pragma unroll
      for (uint32_t i = 0; i < sum_rows<threads>; i += 4) {
        const Vector4 v = *reinterpret_cast<const Vector4*>(weights + term * slice_row(tile) + first_row() + i);
#pragma unroll
        for (uint32_t j = 0; j < 4; ++j) lanes[i + j] = lanes[i + j] + v.x[j];
      }
    }
  }

  // Adds the lanes of a segment, also the last, to the rows' totals.
  __device__ void end_segment(float* totals) {
#pragma unroll
    for (uint32_t i = 0; i < sum_rows<threads>; ++i) {
      const float sum = warp_sum(lanes[i]);
      if (lane() == 0) totals[first_row() + i] = totals[first_row() + i] + sum;
      lanes[i] = 0.0f;
    }
  }
};

template <uint32_t width, uint32_t threads>
__device__ void forward(const AttentionForwardArgs& args, Shared<width, threads>& shared) {
  const AttentionShape& p = args.shape;
  TokenTile at = tile_of_block(p, width);
  at.token = (p.tiles - 1) * tile - at.token;  // the longest rows first
  const Head& head = put_head(shared, head_of(p, at.head / p.heads, at.head % p.heads));
  find_row_max(p, at.token, shared);
  if (threadIdx.x < tile) shared.inverse_sum[threadIdx.x] = 0.0f;  // the sum itself until the end
  Outputs<width, threads> sums;
  clear(sums);
  RowSums<threads> row_sums = {};
  for (uint32_t key = 0; key <= at.token; key += tile) {
    Scores<threads> s;
    contract(s, by_token(p, p.qkv, head.q), at.token, by_token(p, p.qkv, head.k), key, shared);
#pragma unroll
    for (uint32_t i = 0; i < rows<threads>; ++i) {
      const uint32_t row = thread_row<threads>(i);
#pragma unroll
      for (uint32_t j = 0; j < 4; ++j) s[i][j] = exp(s[i][j] * p.scale - shared.row_max[row]);
    }
    hide<threads>(s, 0.0f, p, {at.token, key}, false);
    put_weights(s, shared);
    extend(sums, by_dimension(p, p.qkv, head.v), at.column, key, shared);
    row_sums.add(shared.weights);
    if ((key + tile) % segment_elements == 0) row_sums.end_segment(shared.inverse_sum);
    if ((key + tile) % chunk_terms == 0 && key < at.token) {
      add_outputs<width, threads>(p, at, sums, args.out, head.out, key < chunk_terms, [](uint32_t) { return 1.0f; });
      clear(sums);
    }
  }
  row_sums.end_segment(shared.inverse_sum);
  __syncthreads();
  if (threadIdx.x < tile) shared.inverse_sum[threadIdx.x] = 1.0f / shared.inverse_sum[threadIdx.x];
  __syncthreads();
  add_outputs<width, threads>(p, at, sums, args.out, head.out, at.token < chunk_terms,
                              [&](uint32_t row) { return shared.inverse_sum[row]; });
  if (at.column == 0 && threadIdx.x < left(at.token, p.context) && threadIdx.x < tile) {
    args.row_max[head.query + at.token + threadIdx.x] = shared.row_max[threadIdx.x];
    args.inverse_sum[head.query + at.token + threadIdx.x] = shared.inverse_sum[threadIdx.x];
  }
}

// D of the 64 queries of a tile, into shared memory and, once, for backward_keys(); a barrier must follow.
template <uint32_t width, uint32_t threads>
__device__ void find_row_products(const AttentionBackwardArgs& args, const Head& head, const TokenTile& at,
                                  Shared<width, threads>& shared) {
  const AttentionShape& p = args.shape;
  const float *out = static_cast<const float*>(args.out), *dout = static_cast<const float*>(args.dout);
  for (uint32_t i = 0; i < sum_rows<threads>; ++i) {
    const uint32_t row = threadIdx.x / 32 * sum_rows<threads> + i;
    if (at.token + row >= p.context) break;  // the whole warp
    const uint64_t first = head.out.first + (at.token + row) * head.out.row;
    const float product = row_sum(p.head_size, [&](uint32_t d) { return dout[first + d] * out[first + d]; });
    if (lane() != 0) continue;
    shared.row_product[row] = product;
    if (at.column == 0) args.row_products[head.query + at.token + row] = product;
  }
}

// What the forward pass left of the 64 queries from `query` on, into shared memory; a barrier must follow.
template <uint32_t width, uint32_t threads>
__device__ void load_statistics(const AttentionShape& p, const Head& head, uint32_t query,
                                Shared<width, threads>& shared) {
  if (threadIdx.x >= tile || threadIdx.x >= left(query, p.context)) return;
  const uint64_t at = head.query + query + threadIdx.x;
  shared.row_max[threadIdx.x] = p.row_max[at];
  shared.inverse_sum[threadIdx.x] = p.inverse_sum[at];
}

// D likewise, which backward_queries() has found.
template <uint32_t width, uint32_t threads>
__device__ void load_row_products(const AttentionBackwardArgs& args, const Head& head, uint32_t query,
                                  Shared<width, threads>& shared) {
  if (threadIdx.x >= tile || threadIdx.x >= left(query, args.shape.context)) return;
  shared.row_product[threadIdx.x] = args.row_products[head.query + query + threadIdx.x];
}

// P of section 5 from the score of query number `row` of the tile.
template <uint32_t width, uint32_t threads>
__device__ float weight(const AttentionShape& p, float score, uint32_t row, const Shared<width, threads>& shared) {
  return exp(score * p.scale - shared.row_max[row]) * shared.inverse_sum[row];
}

template <uint32_t width, uint32_t threads>
__device__ void backward_queries(const AttentionBackwardArgs& args, Shared<width, threads>& shared) {
  const AttentionShape& p = args.shape;
  TokenTile at = tile_of_block(p, width);
  at.token = (p.tiles - 1) * tile - at.token;  // the longest rows first
  const Head& head = put_head(shared, head_of(p, at.head / p.heads, at.head % p.heads));
  find_row_products(args, head, at, shared);
  load_statistics(p, head, at.token, shared);
  Outputs<width, threads> sums;
  clear(sums);
  for (uint32_t key = 0; key <= at.token; key += tile) {
    Scores<threads> x;
    contract(x, by_token(p, p.qkv, head.q), at.token, by_token(p, p.qkv, head.k), key, shared);
#pragma unroll
    for (uint32_t i = 0; i < rows<threads>; ++i) {
#pragma unroll
      for (uint32_t j = 0; j < 4; ++j) x[i][j] = weight(p, x[i][j], thread_row<threads>(i), shared);
    }
    put_weights(x, shared);  // out of the registers; no other thread reads them
    contract(x, by_token(p, args.dout, head.out), at.token, by_token(p, p.qkv, head.v), key, shared);
    weigh(x, shared, [&](uint32_t i, uint32_t) { return shared.row_product[thread_row<threads>(i)]; });
    hide<threads>(x, 0.0f, p, {at.token, key}, false);
    put_weights(x, shared);
    extend(sums, by_dimension(p, p.qkv, head.k), at.column, key, shared);
    if ((key + tile) % chunk_terms == 0 && key < at.token) {
      add_outputs<width, threads>(p, at, sums, args.dqkv, head.q, key < chunk_terms, [](uint32_t) { return 1.0f; });
      clear(sums);
    }
  }
  add_outputs<width, threads>(p, at, sums, args.dqkv, head.q, at.token < chunk_terms,
                              [&](uint32_t) { return p.scale; });
}

// one_chunk: of queries, which saves the registers of the totals.
template <bool one_chunk, uint32_t width, uint32_t threads>
__device__ void backward_keys(const AttentionBackwardArgs& args, Shared<width, threads>& shared) {
  const AttentionShape& p = args.shape;
  const TokenTile at = tile_of_block(p, width);
  const uint32_t group = p.heads / p.kv_heads, sequence = at.head / p.kv_heads;
  for (uint32_t member = 0; member < group; ++member) {
    const Head& head = put_head(shared, head_of(p, sequence, at.head % p.kv_heads * group + member));
    Outputs<width, threads> dk, dv, dk_totals, dv_totals;
    clear(dk);
    clear(dv);
    clear(dk_totals);
    clear(dv_totals);
    // Queries before the tile's keys contribute exact zeros.
    for (uint32_t query = at.token; query < p.context; query += tile) {
      load_statistics(p, head, query, shared);
      load_row_products(args, head, query, shared);
      Scores<threads> x;
      contract(x, by_token(p, p.qkv, head.k), at.token, by_token(p, p.qkv, head.q), query, shared);
#pragma unroll
      for (uint32_t i = 0; i < rows<threads>; ++i) {
#pragma unroll
        for (uint32_t j = 0; j < 4; ++j) x[i][j] = weight(p, x[i][j], thread_column(j), shared);
      }
      hide<threads>(x, 0.0f, p, {query, at.token}, true);
      put_weights(x, shared);
      extend(dv, by_dimension(p, args.dout, head.out), at.column, query, shared);
      contract(x, by_token(p, p.qkv, head.v), at.token, by_token(p, args.dout, head.out), query, shared);
      weigh(x, shared, [&](uint32_t, uint32_t j) { return shared.row_product[thread_column(j)]; });
      hide<threads>(x, 0.0f, p, {query, at.token}, true);
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
    add_outputs<width, threads>(p, at, dk_totals, args.dqkv, head.k, first,
                                [&](uint32_t) { return last ? p.scale : 1.0f; });
    add_outputs<width, threads>(p, at, dv_totals, args.dqkv, head.v, first, [](uint32_t) { return 1.0f; });
  }
}

}  // namespace

// A multiprocessor's blocks of attention_backward_keys_64; with three, code for older ones would spill registers.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
constexpr uint32_t keys_blocks = 2;
#else
constexpr uint32_t keys_blocks = 3;
#endif

// Names have the number of dimensions that a block's outputs have. _long: of any context, not of one chunk at most.
#define ATTENTION(name, Args, threads, blocks, width, function)                         \
  extern "C" __global__ __launch_bounds__(threads, blocks) void name(const Args args) { \
    static __shared__ Shared<width, threads> shared;                                    \
    function(args, shared);                                                             \
  }
ATTENTION(attention_forward_64, AttentionForwardArgs, attention_threads, 3, 64, forward)
ATTENTION(attention_forward_128, AttentionForwardArgs, attention_threads, 2, 128, forward)
ATTENTION(attention_backward_queries_64, AttentionBackwardArgs, attention_threads, 3, 64, backward_queries)
ATTENTION(attention_backward_queries_128, AttentionBackwardArgs, attention_threads, 2, 128, backward_queries)
ATTENTION(attention_backward_keys_64, AttentionBackwardArgs, attention_threads, keys_blocks, 64, backward_keys<true>)
ATTENTION(attention_backward_keys_128, AttentionBackwardArgs, attention_many_threads, 1, 128, backward_keys<true>)
ATTENTION(attention_backward_keys_64_long, AttentionBackwardArgs, attention_many_threads, 1, 64, backward_keys<false>)

}  // namespace kernels::cuda
