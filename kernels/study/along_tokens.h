// The textbook rule for weight gradients, to compare the profile's with: the input and the output's gradient are both
// quantised along the block's tokens, the input anew.
#pragma once

#include <map>
#include <vector>

#include "kernels/forwarding_ops.h"

namespace kernels::study {

class AlongTokens final : public ForwardingOps {
 public:
  using ForwardingOps::ForwardingOps;

  void quantise_rows(const Quantise& op) override {
    rows_[op.q] = {op.rows, op.columns, op.row, std::vector<float>(op.x, op.x + op.rows * op.row)};
    inner_->quantise_rows(op);
  }

  void quantise_columns(const Quantise& op) override {
    Quantise plain = op;
    plain.row_factors = nullptr;
    inner_->quantise_columns(plain);
  }

  // A weight's gradient is the product one of whose operands has no scales of its own: the layer's input.
  void int8_matmul(const Int8Matmul& op) override {
    if (op.a_scales && op.b_scales) return inner_->int8_matmul(op);
    Int8Matmul product = op;
    const int8_t*& q = op.a_scales ? product.b : product.a;
    const Input& input = rows_.at(q);
    q_.resize(input.x.size()), scales_.resize(input.columns);
    inner_->quantise_columns({.rows = input.rows,
                              .columns = input.columns,
                              .row = input.row,
                              .x = input.x.data(),
                              .q = q_.data(),
                              .scales = scales_.data()});
    q = q_.data();
    (op.a_scales ? product.b_scales : product.a_scales) = scales_.data();
    inner_->int8_matmul(product);
  }

 private:
  struct Input {
    size_t rows = 0, columns = 0, row = 0;
    std::vector<float> x;
  };
  std::map<const int8_t*, Input> rows_;  // by where their digits went
  std::vector<int8_t> q_;
  std::vector<float> scales_;
};

}  // namespace kernels::study
