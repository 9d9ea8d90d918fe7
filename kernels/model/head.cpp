#include "model/head.h"

namespace kernels {

namespace {

LinearPlan plan_linear(const ModelConfig& config, const NetworkPlan& plan, Ops& ops, Arena& arena) {
  const Arithmetic arithmetic = plan.profile == Profile::exact_int8_head ? Arithmetic::int8_two_digits
                                : plan.profile == Profile::fast          ? Arithmetic::fast
                                                                         : Arithmetic::fp32;
  return {arithmetic, plan, row_of_logits(config.vocabulary), ops, arena};
}

}  // namespace

Head::Head(const ModelConfig& config, const NetworkPlan& plan, Ops& ops, Arena& arena)
    : vocabulary_(config.vocabulary),
      row_(row_of_logits(config.vocabulary)),
      ops_(ops),
      linear_(config.channels, config.vocabulary, Linear::Layout::outputs_inputs, plan_linear(config, plan, ops, arena),
              nullptr, row_),
      logits_(arena.take_floats_or_halves(plan.tokens * row_, plan.profile == Profile::fast)) {}

void Head::logits(ConstFloatsOrHalves x, const float* weight, float* logits) const {
  linear_.forward(x, weight, nullptr, nullptr, 1, logits, {});
}

void Head::losses(ConstFloatsOrHalves x, const float* weight, const MicroBatch& batch, float scale_gradient,
                  float* losses, const Cancel& cancel) {
  linear_.forward(x, weight, nullptr, nullptr, batch.tokens(), logits_, cancel);
  ops_.cross_entropy({.rows = batch.tokens(),
                      .vocabulary = vocabulary_,
                      .row = row_,
                      .logits = logits_,
                      .targets = batch.targets,
                      .losses = losses,
                      .scale_gradient = scale_gradient});
}

void Head::backward(ConstFloatsOrHalves x, const float* weight, const MicroBatch& batch, FloatsOrHalves dx,
                    float* dweight, const Cancel& cancel) {
  linear_.backward(x, weight, logits_, batch.tokens(), dx, dweight, nullptr, cancel);
}

}  // namespace kernels
