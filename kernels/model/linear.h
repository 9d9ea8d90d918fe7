// A linear layer y = x·W + bias (+ residual) and its gradients (docs/numerics.md section 5).
#pragma once

#include "kernels/ops.h"
#include "kernels/training.h"

namespace kernels {

class Linear {
 public:
  // How W lies in memory: as transformers' Conv1D (GPT-2), or as torch's nn.Linear (LLaMA, embeddings).
  enum class Layout { inputs_outputs, outputs_inputs };

  Linear(size_t inputs, size_t outputs, Layout layout, Ops& ops)
      : inputs_(inputs), outputs_(outputs), layout_(layout), ops_(ops) {}

  // x: (rows, inputs), bias: (outputs) or null, residual: (rows, outputs) or null, y: (rows, outputs).
  void forward(const float* x, const float* weight, const float* bias, const float* residual, size_t rows, float* y,
               const Cancel& cancel) const;

  // dx = dy·Wᵀ; dweight += xᵀ·dy; dbias += sum of dy, where there is one. dx: (rows, inputs).
  void backward(const float* x, const float* weight, const float* dy, size_t rows, float* dx, float* dweight,
                float* dbias, const Cancel& cancel) const;

 private:
  void multiply(const Matmul& whole, const Cancel& cancel) const;

  size_t inputs_, outputs_;
  Layout layout_;
  Ops& ops_;
};

}  // namespace kernels
