// A linear layer y = x·W + bias (+ residual) and its gradients (docs/numerics.md sections 5, 9 and 10).
#pragma once

#include "kernels/ops.h"
#include "kernels/training.h"
#include "model/arena.h"
#include "model/network.h"

namespace kernels {

enum class Arithmetic {
  fp32,
  fast,
  int8,
  int8_two_digits  // with two digits of the output's gradient
};

// Of a profile's linear layers but the head.
Arithmetic arithmetic_of(Profile profile);

// Whether layers hold quantised weights and inputs.
inline bool is_int8(Arithmetic arithmetic) {
  return arithmetic == Arithmetic::int8 || arithmetic == Arithmetic::int8_two_digits;
}

// What the linear layers of a network are planned with. Throws std::invalid_argument for int8 and more than int8_terms
// tokens in a block.
struct LinearPlan {
  // widest: the most outputs of a layer.
  LinearPlan(Arithmetic how, const NetworkPlan& network, size_t widest, Ops& engine, Arena& memory);

  // Throws std::invalid_argument for int8 where a config's `key` asks for products of more than int8_terms terms.
  void require_terms(const char* key, size_t value, size_t terms) const;

  Arithmetic arithmetic;
  size_t rows, block;  // at most, and of a full block
  bool backward;
  void* fast_workspace;
  Ops& ops;
  Arena& arena;

  // The digits of an output's gradient; null but in int8.
  int8_t* q = nullptr;      // (rows, widest)
  int8_t* low = nullptr;    // likewise, the second digit
  float* scales = nullptr;  // (rows) or (blocks, outputs)
};

// One layer. In int8 it holds its quantised weights, and keeps its input quantised for backward(). In fast it holds its
// weights as halves; inputs and gradients are halves then, but for what a comment says is fp32.
class Linear {
 public:
  // How W lies in memory: as transformers' Conv1D (GPT-2), or as torch's nn.Linear (LLaMA, embeddings).
  enum class Layout { inputs_outputs, outputs_inputs };

  // same_input: a layer of this shape in whose memory the input is kept, until its next forward(). output_row: elements
  // from one row of y and dy to the next; 0: outputs.
  Linear(size_t inputs, size_t outputs, Layout layout, const LinearPlan& plan, const Linear* same_input = nullptr,
         size_t output_row = 0);

  // Before forward() and backward() with a weight, or bias, that has changed. bias: as in forward().
  void prepare(const float* weight, const float* bias) const;

  // x: (rows, inputs), bias: (outputs) or null, residual: (rows, outputs), fp32, or null, y: (rows, outputs), of fp32
  // where there is a residual. gelu: (rows, outputs) or null, what the GELU of y goes to.
  void forward(ConstFloatsOrHalves x, const float* weight, const float* bias, const float* residual, size_t rows,
               FloatsOrHalves y, const Cancel& cancel, FloatsOrHalves gelu = nullptr) const;

  // Whether backward() reads x.
  bool needs_input() const { return !is_int8(plan_.arithmetic); }

  // dx = dy·Wᵀ; dweight += xᵀ·dy of each block; dbias += sum of dy, likewise, where there is one. dx: (rows, inputs).
  // gelu_input: (rows, inputs) or null: dx is the gradient there, x being its GELU.
  void backward(ConstFloatsOrHalves x, const float* weight, ConstFloatsOrHalves dy, size_t rows, FloatsOrHalves dx,
                float* dweight, float* dbias, const Cancel& cancel, ConstFloatsOrHalves gelu_input = nullptr) const;

 private:
  // A weight's layout with vectors of inputs or of outputs.
  struct Int8Weight {
    int8_t* q = nullptr;      // (inputs · outputs), laid out as W
    float* scales = nullptr;  // (outputs) or (inputs)
  };

  bool inputs_first() const { return layout_ == Layout::inputs_outputs; }
  // y = x·W, dx = dy·Wᵀ and dweight + = xᵀ·dy: sizes and strides, and of the last its operands.
  template <class Product>
  Product output_product(size_t rows) const;
  template <class Product>
  Product input_product(size_t rows) const;
  template <class Product, class T>
  Product weight_product(size_t rows, const T* x, const T* dy) const;
  bool fast() const { return plan_.arithmetic == Arithmetic::fast; }
  void forward_fast(const uint16_t* x, const float* bias, const float* residual, size_t rows, FloatsOrHalves y,
                    FloatsOrHalves gelu, const Cancel& cancel) const;
  void backward_fast(const uint16_t* x, const uint16_t* dy, size_t rows, uint16_t* dx, float* dweight,
                     const uint16_t* gelu_input, const Cancel& cancel) const;
  void forward_int8(const float* x, const float* bias, const float* residual, size_t rows, float* y,
                    const Cancel& cancel) const;
  void backward_int8(const float* dy, size_t rows, float* dx, float* dweight, const Cancel& cancel) const;
  void backward_fp32(const float* x, const float* weight, const float* dy, size_t rows, float* dx, float* dweight,
                     const Cancel& cancel) const;

  size_t inputs_, outputs_, output_row_;
  Layout layout_;
  LinearPlan plan_;
  uint16_t* weight_halves_ = nullptr;  // laid out as W
  uint16_t* bias_halves_ = nullptr;    // (outputs)
  Int8Weight by_output_, by_input_;    // for forward() and backward()
  int8_t* input_ = nullptr;            // (rows, inputs)
  float* input_scales_ = nullptr;      // (rows)
};

}  // namespace kernels
