#include "model/head.h"

namespace kernels {

namespace {

LinearPlan plan_linear(const ModelConfig& config, const NetworkPlan& plan, Ops& ops, Arena& arena) {
  const Arithmetic arithmetic = plan.profile == Profile::exact_int8_head ? Arithmetic::int8_two_digits
                                : plan.profile == Profile::fast          ? Arithmetic::fast
                                                                         : Arithmetic::fp32;
  return {arithmetic, plan, config.channels, config.vocabulary, ops, arena};
}

}  // namespace

Head::Head(const ModelConfig& config, const NetworkPlan& plan, Ops& ops, Arena& arena)
    : vocabulary_(config.vocabulary),
      ops_(ops),
      linear_(config.channels, config.vocabulary, Linear::Layout::outputs_inputs,
              plan_linear(config, plan, ops, arena)),
      logits_(arena.take<float>(plan.tokens * config.vocabulary)) {}

void Head::logits(const float* x, const float* weight, float* logits) const {
  linear_.forward(x, weight, nullptr, nullptr, 1, logits, {});
}

void Head::losses(const float* x, const float* weight, const MicroBatch& batch, float scale_gradient, float* losses,
                  const Cancel& cancel) {
  linear_.forward(x, weight, nullptr, nullptr, batch.tokens(), logits_, cancel);
  ops_.cross_entropy({.rows = batch.tokens(),
                      .vocabulary = vocabulary_,
                      .logits = logits_,
                      .targets = batch.targets,
                      .losses = losses,
                      .scale_gradient = scale_gradient});
}

void Head::backward(const float* x, const float* weight, const MicroBatch& batch, float* dx, float* dweight,
                    const Cancel& cancel) {
  linear_.backward(x, weight, logits_, batch.tokens(), dx, dweight, nullptr, cancel);
}

}  // namespace kernels
