#include "model/network.h"

#include "model/gpt2.h"
#include "model/llama.h"

namespace kernels {

std::unique_ptr<Network> make_network(const ModelConfig& config, NetworkPlan plan, Ops& ops, Arena& arena) {
  if (plan.profile == Profile::fast) plan.fast_workspace = arena.take<std::byte>(ops.fast_workspace());
  if (config.family == Family::llama) return std::make_unique<Llama>(config, plan, ops, arena);
  return std::make_unique<Gpt2>(config, plan, ops, arena);
}

}  // namespace kernels
