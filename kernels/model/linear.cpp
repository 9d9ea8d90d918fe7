#include "model/linear.h"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace kernels {
namespace {

// A matmul is cut into pieces of about this many multiplications, so that Cancel is heard within a second or so on
// a slow machine. A card needs large ones to have work for all its multiprocessors; within its timeout it must get
// through 64 at most, 4.4e12 multiplications, for which one that does 0.1e12 in a second has 44 seconds. Elements are
// independent: cutting changes no exact bit.
size_t multiplications_per_piece(const Ops& ops) { return size_t{1} << (ops.in_host_memory() ? 32 : 36); }
constexpr size_t piece_multiple = 128;  // the side of a card's largest tiles

// A piece of c: `rows` by `columns` elements from (row, column) on.
struct Piece {
  size_t row, column, rows, columns;
};

// Cut along the longer side of the result, so that little is packed twice.
template <class Compute>
void for_each_piece(const Ops& ops, size_t m, size_t n, size_t k, const Cancel& cancel, const Compute& compute) {
  const bool by_rows = m >= n;
  const size_t length = by_rows ? m : n, other = by_rows ? n : m;
  const size_t fit = multiplications_per_piece(ops) / (other * k) / piece_multiple;
  const size_t size = std::max(fit, size_t{1}) * piece_multiple;
  for (size_t first = 0; first < length; first += size) {
    if (cancel && cancel()) throw Cancelled();
    const size_t count = std::min(size, length - first);
    compute(by_rows ? Piece{first, 0, count, n} : Piece{0, first, m, count});
  }
}

template <class Product>
Product piece_of(const Product& whole, const Piece& at) {
  Product piece = whole;
  piece.m = at.rows, piece.n = at.columns;
  piece.a += at.row * whole.a_row;
  piece.b += at.column * whole.b_col;
  piece.c += at.row * whole.ldc + at.column;
  if (whole.bias) piece.bias += at.column;
  if (whole.residual) piece.residual += at.row * whole.ldc + at.column;
  return piece;
}

void multiply(Ops& ops, const FastMatmul& whole, const Cancel& cancel) {
  for_each_piece(ops, whole.m, whole.n, whole.k, cancel, [&](const Piece& at) {
    FastMatmul piece = piece_of(whole, at);
    const size_t first = at.row * whole.ldc + at.column;
    if (whole.before_gelu) piece.before_gelu += first;
    if (whole.gelu_input) piece.gelu_input += first;
    ops.fast_matmul(piece);
  });
}

void multiply(Ops& ops, const Matmul& whole, const Cancel& cancel) {
  for_each_piece(ops, whole.m, whole.n, whole.k, cancel, [&](const Piece& at) { ops.matmul(piece_of(whole, at)); });
}

void multiply(Ops& ops, const Int8Matmul& whole, const Cancel& cancel) {
  for_each_piece(ops, whole.m, whole.n, whole.k, cancel, [&](const Piece& at) {
    Int8Matmul piece = piece_of(whole, at);
    if (whole.a_low) piece.a_low += at.row * whole.a_row;
    if (whole.a_scales) piece.a_scales += at.row;
    if (whole.b_scales) piece.b_scales += at.column;
    ops.int8_matmul(piece);
  });
}

[[noreturn]] void refuse_terms(const std::string& what) {
  throw std::invalid_argument("int8 profiles: " + what + "; supported: at most " + std::to_string(int8_terms));
}

}  // namespace

Arithmetic arithmetic_of(Profile profile) {
  if (profile == Profile::fast) return Arithmetic::fast;
  return profile == Profile::exact_fp32 ? Arithmetic::fp32 : Arithmetic::int8;
}

LinearPlan::LinearPlan(Arithmetic how, const NetworkPlan& network, size_t widest, Ops& engine, Arena& memory)
    : arithmetic(how),
      rows(network.tokens),
      block(network.block),
      backward(network.backward),
      fast_workspace(network.fast_workspace),
      ops(engine),
      arena(memory) {
  if (!is_int8(how) || !backward) return;
  q = arena.take<int8_t>(rows * widest);
  if (how == Arithmetic::int8_two_digits) low = arena.take<int8_t>(rows * widest);
  scales = arena.take<float>(std::max(rows, (rows + block - 1) / block * widest));
  const size_t terms = std::min(block, rows);  // of a weight's gradient
  if (terms > int8_terms) refuse_terms(std::to_string(terms) + " tokens in a block");
}

void LinearPlan::require_terms(const char* key, size_t value, size_t terms) const {
  if (!is_int8(arithmetic) || terms <= int8_terms) return;
  refuse_terms(std::string(key) + " = " + std::to_string(value) + " makes sums of " + std::to_string(terms) +
               " products");
}

Linear::Linear(size_t inputs, size_t outputs, Layout layout, const LinearPlan& plan, const Linear* same_input,
               size_t output_row)
    : inputs_(inputs),
      outputs_(outputs),
      output_row_(output_row > 0 ? output_row : outputs),
      layout_(layout),
      plan_(plan) {
  if (fast()) {
    weight_halves_ = plan.arena.take<uint16_t>(inputs * outputs);
    bias_halves_ = plan.arena.take<uint16_t>(outputs);
  }
  if (!is_int8(plan.arithmetic)) return;
  by_output_ = {plan.arena.take<int8_t>(inputs * outputs), plan.arena.take<float>(outputs)};
  input_ = same_input ? same_input->input_ : plan.arena.take<int8_t>(plan.rows * inputs);
  input_scales_ = same_input ? same_input->input_scales_ : plan.arena.take<float>(plan.rows);
  if (!plan.backward) return;
  by_input_ = {plan.arena.take<int8_t>(inputs * outputs), plan.arena.take<float>(inputs)};
}

void Linear::prepare(const float* weight, const float* bias) const {
  if (fast()) {
    plan_.ops.round_to_halves({.count = inputs_ * outputs_, .x = weight, .y = weight_halves_});
    if (bias) plan_.ops.round_to_halves({.count = outputs_, .x = bias, .y = bias_halves_});
  }
  if (!is_int8(plan_.arithmetic)) return;
  const auto quantise = [&](const Int8Weight& to, bool rows) {
    Quantise op{.rows = inputs_, .columns = outputs_, .x = weight, .q = to.q, .scales = to.scales};
    if (!inputs_first()) std::swap(op.rows, op.columns);
    op.row = op.columns;
    rows ? plan_.ops.quantise_rows(op) : plan_.ops.quantise_columns(op);
  };
  quantise(by_output_, !inputs_first());
  if (plan_.backward) quantise(by_input_, inputs_first());
}

template <class Product>
Product Linear::output_product(size_t rows) const {
  Product product{.m = rows, .n = outputs_, .k = inputs_};
  product.a_row = inputs_;
  product.b_row = inputs_first() ? outputs_ : 1, product.b_col = inputs_first() ? 1 : inputs_;
  product.ldc = output_row_;
  return product;
}

template <class Product>
Product Linear::input_product(size_t rows) const {
  Product product{.m = rows, .n = inputs_, .k = outputs_};
  product.a_row = output_row_;
  product.b_row = inputs_first() ? 1 : inputs_, product.b_col = inputs_first() ? outputs_ : 1;
  product.ldc = inputs_;
  return product;
}

// The gradient of W has W's layout: its rows are inputs or outputs.
template <class Product, class T>
Product Linear::weight_product(size_t rows, const T* x, const T* dy) const {
  Product product{.m = inputs_first() ? inputs_ : outputs_, .n = inputs_first() ? outputs_ : inputs_, .k = rows};
  product.a = inputs_first() ? x : dy, product.b = inputs_first() ? dy : x;
  product.a_row = 1, product.a_col = inputs_first() ? inputs_ : output_row_;
  product.b_row = inputs_first() ? output_row_ : inputs_;
  product.ldc = product.n;
  product.accumulate = true;
  return product;
}

void Linear::forward(ConstFloatsOrHalves x, const float* weight, const float* bias, const float* residual, size_t rows,
                     FloatsOrHalves y, const Cancel& cancel, FloatsOrHalves gelu) const {
  if (fast()) return forward_fast(x.as_halves(), bias, residual, rows, y, gelu, cancel);
  if (is_int8(plan_.arithmetic)) {
    forward_int8(x, bias, residual, rows, y, cancel);
  } else {
    auto product = output_product<Matmul>(rows);
    product.a = x, product.b = weight, product.c = y;
    product.bias = bias, product.residual = residual;
    multiply(plan_.ops, product, cancel);
  }
  if (gelu) plan_.ops.gelu_forward({.count = rows * outputs_, .x = y, .y = gelu});
}

void Linear::backward(ConstFloatsOrHalves x, const float* weight, ConstFloatsOrHalves dy, size_t rows,
                      FloatsOrHalves dx, float* dweight, float* dbias, const Cancel& cancel,
                      ConstFloatsOrHalves gelu_input) const {
  if (dbias)
    plan_.ops.bias_backward({.rows = rows, .channels = outputs_, .block = plan_.block, .dy = dy, .dbias = dbias});
  if (fast()) {
    return backward_fast(x.as_halves(), dy.as_halves(), rows, dx.as_halves(), dweight, gelu_input.as_halves(), cancel);
  }
  if (is_int8(plan_.arithmetic)) {
    backward_int8(dy, rows, dx, dweight, cancel);
  } else {
    backward_fp32(x, weight, dy, rows, dx, dweight, cancel);
  }
  if (gelu_input) plan_.ops.gelu_backward({.count = rows * inputs_, .x = gelu_input, .dy = dx, .dx = dx});
}

void Linear::backward_fp32(const float* x, const float* weight, const float* dy, size_t rows, float* dx, float* dweight,
                           const Cancel& cancel) const {
  auto of_weight = weight_product<Matmul>(rows, x, dy);
  of_weight.c = dweight;
  of_weight.block = plan_.block;
  multiply(plan_.ops, of_weight, cancel);
  auto of_input = input_product<Matmul>(rows);
  of_input.a = dy, of_input.b = weight, of_input.c = dx;
  multiply(plan_.ops, of_input, cancel);
}

void Linear::forward_fast(const uint16_t* x, const float* bias, const float* residual, size_t rows, FloatsOrHalves y,
                          FloatsOrHalves gelu, const Cancel& cancel) const {
  auto product = output_product<FastMatmul>(rows);
  product.a = x, product.b = weight_halves_, product.c = y;
  product.residual = residual, product.workspace = plan_.fast_workspace;
  if (bias) product.bias = y.halves() ? ConstFloatsOrHalves(bias_halves_) : ConstFloatsOrHalves(bias);
  if (gelu) product.c = gelu, product.before_gelu = y.as_halves();
  multiply(plan_.ops, product, cancel);
}

void Linear::backward_fast(const uint16_t* x, const uint16_t* dy, size_t rows, uint16_t* dx, float* dweight,
                           const uint16_t* gelu_input, const Cancel& cancel) const {
  auto of_weight = weight_product<FastMatmul>(rows, x, dy);
  of_weight.c = dweight, of_weight.workspace = plan_.fast_workspace;
  multiply(plan_.ops, of_weight, cancel);
  auto of_input = input_product<FastMatmul>(rows);
  of_input.a = dy, of_input.b = weight_halves_, of_input.c = dx;
  of_input.gelu_input = gelu_input, of_input.workspace = plan_.fast_workspace;
  multiply(plan_.ops, of_input, cancel);
}

void Linear::forward_int8(const float* x, const float* bias, const float* residual, size_t rows, float* y,
                          const Cancel& cancel) const {
  plan_.ops.quantise_rows(
      {.rows = rows, .columns = inputs_, .row = inputs_, .x = x, .q = input_, .scales = input_scales_});
  auto product = output_product<Int8Matmul>(rows);
  product.a = input_, product.a_scales = input_scales_;
  product.b = by_output_.q, product.b_scales = by_output_.scales;
  product.c = y, product.bias = bias, product.residual = residual;
  multiply(plan_.ops, product, cancel);
}

// The digits of dY serve dX as rows, then dW as columns.
void Linear::backward_int8(const float* dy, size_t rows, float* dx, float* dweight, const Cancel& cancel) const {
  Quantise gradient{.rows = rows,
                    .columns = outputs_,
                    .row = output_row_,
                    .x = dy,
                    .q = plan_.q,
                    .low = plan_.low,
                    .scales = plan_.scales};
  plan_.ops.quantise_rows(gradient);
  auto of_input = input_product<Int8Matmul>(rows);
  of_input.a = plan_.q, of_input.a_low = plan_.low, of_input.a_scales = plan_.scales;
  of_input.b = by_input_.q, of_input.b_scales = by_input_.scales;
  of_input.c = dx;
  multiply(plan_.ops, of_input, cancel);

  gradient.block = plan_.block;
  gradient.row_factors = input_scales_;
  plan_.ops.quantise_columns(gradient);
  auto of_weight = weight_product<Int8Matmul>(rows, input_, plan_.q);
  of_weight.a_low = plan_.low;
  (inputs_first() ? of_weight.b_scales : of_weight.a_scales) = plan_.scales;
  of_weight.c = dweight;
  of_weight.block = plan_.block, of_weight.block_scales = outputs_;
  multiply(plan_.ops, of_weight, cancel);
}

}  // namespace kernels
