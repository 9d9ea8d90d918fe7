// A lane of a work unit, docs/numerics.md sections 4 to 6.
#include <algorithm>
#include <bit>
#include <cmath>

#include "cpu/float_environment.h"
#include "kernels/training.h"
#include "model/arena.h"
#include "model/network.h"

namespace kernels {
namespace {

constexpr size_t block_tokens = 1024;

[[noreturn]] void refuse(const std::string& message) { throw std::invalid_argument("trainer: " + message); }

std::string times(size_t a, size_t b) { return std::to_string(a) + " x " + std::to_string(b); }

// Sequences in a full block: the fewest that hold 1,024 tokens.
size_t block_sequences(size_t context) { return (block_tokens + context - 1) / context; }

size_t blocks_in(size_t batch, size_t context) {
  return (batch + block_sequences(context) - 1) / block_sequences(context);
}

void validate(const ModelConfig& config, size_t batch, size_t context, const Ops& ops, Trainer::Settings settings) {
  parameter_count(config);  // throws for an impossible model
  if (batch < 1 || batch > size_t{1} << 24) refuse("batch = " + std::to_string(batch) + "; supported: 1 to 2^24");
  if (context < 1 || context > config.positions)
    refuse("context = " + std::to_string(context) + "; this model supports 1 to " + std::to_string(config.positions) +
           " positions");
  if (settings.micro_batch < 1 || (settings.micro_batch > 1 && settings.purpose == Trainer::Purpose::block_gradients))
    refuse("micro-batch of " + std::to_string(settings.micro_batch) + " blocks; supported: 1" +
           (settings.micro_batch > 1 ? " where each block's gradient is asked for" : " or more"));
  if (settings.profile == Profile::fast && ops.half_precision() == HalfPrecision::none)
    refuse(name_of(settings.profile) + " needs a card with tensor cores, of compute capability 7.5 or later; this is " +
           ops.name());
  if (settings.profile == Profile::fast && config.head_size() > fast_head_size)
    refuse(name_of(settings.profile) + " takes heads of at most " + std::to_string(fast_head_size) +
           " dimensions; this model's have " + std::to_string(config.head_size()));
}

// By which gradients are multiplied on their way, a power of two: docs/numerics.md section 10.
float gradient_scale(const Ops& ops, Profile profile, size_t tokens) {
  if (profile != Profile::fast || ops.half_precision() != HalfPrecision::fp16) return 1;
  return 128 * static_cast<float>(std::bit_floor(tokens));
}

// Every buffer of a trainer in the operations' memory; with a null arena, only their sizes are counted.
struct Plan {
  using Purpose = Trainer::Purpose;

  Plan(const ModelConfig& config, size_t batch, size_t context, Ops& ops, Trainer::Settings settings, Arena& arena)
      : sequences(std::min(batch, settings.micro_batch * block_sequences(context))) {
    const Purpose purpose = settings.purpose;
    network = make_network(config,
                           {.tokens = sequences * context,
                            .context = context,
                            .block = block_sequences(context) * context,
                            .backward = purpose != Purpose::evaluate,
                            .recompute = settings.recompute,
                            .profile = settings.profile},
                           ops, arena);
    const size_t P = parameter_count(config), embedding = config.vocabulary * config.channels;
    tokens = arena.take<uint16_t>(2 * sequences * context);
    losses = arena.take<float>(batch * context);
    if (purpose != Purpose::evaluate) micro_batch_losses = arena.take<float>(sequences * context);
    if (!ops.in_host_memory()) {
      weights = arena.take<float>(P);
      result = arena.take<float>(purpose == Purpose::evaluate ? config.vocabulary : P);
    }
    if (purpose == Purpose::evaluate) return;
    if (config.tied_head) embedding_gradient = arena.take<float>(embedding);
    if (purpose == Purpose::block_gradients) {
      block_gradient = arena.take<float>(P);
      if (config.tied_head) block_embedding_gradient = arena.take<float>(embedding);
    }
    if (purpose == Purpose::local_steps) {
      gradient = arena.take<float>(P);
      moment_1 = arena.take<float>(P);
      moment_2 = arena.take<float>(P);
      squares = arena.take<float>(parameters_of(config).size());
    }
  }

  size_t sequences;  // of a full micro-batch
  std::unique_ptr<Network> network;
  uint16_t* tokens;                           // (2M): a micro-batch's inputs, then its targets
  float* losses;                              // (B, T)
  float* micro_batch_losses = nullptr;        // (M)
  float* weights = nullptr;                   // (P), where the caller's lie in other memory
  float* result = nullptr;                    // (P), or (V) of logits(), likewise
  float* embedding_gradient = nullptr;        // (V, C), where the head is tied
  float* block_gradient = nullptr;            // (P)
  float* block_embedding_gradient = nullptr;  // (V, C), where the head is tied
  float* gradient = nullptr;                  // (P)
  float* moment_1 = nullptr;                  // (P)
  float* moment_2 = nullptr;                  // (P)
  float* squares = nullptr;                   // (tensors)
};

// What is the same for all micro-batches of a batch, and often for those of the next.
struct Work {
  bool operator==(const Work&) const = default;

  const float* weights = nullptr;
  float* gradients = nullptr;
  size_t tokens = 0;   // of the batch
  bool alone = false;  // each block's gradient by itself as well, in Plan::block_gradient
};

size_t bytes_of(const ModelConfig& config, size_t batch, size_t context, Ops& ops, Trainer::Settings settings) {
  Arena counting;
  const Plan plan(config, batch, context, ops, settings, counting);
  return counting.used();
}

std::vector<TensorEnd> ends_of(const std::vector<Parameter>& parameters) {
  std::vector<TensorEnd> ends;
  for (const Parameter& parameter : parameters)
    ends.push_back({.end = parameter.offset + parameter.count, .decays = parameter.decays()});
  return ends;
}

// values: in the memory of ops.
void require_finite(Ops& ops, const std::vector<Parameter>& parameters, std::span<const float> values, size_t step) {
  const size_t bad = ops.first_non_finite(values.data(), values.size());
  if (bad < values.size()) refuse_element(parameters, bad, step);
}

// Norm with the caller's memory, which is the operations', for R(x*x) of each tensor. An element that is not finite is
// looked for only where the norm says that there may be one.
float norm_into(Ops& ops, const std::vector<Parameter>& parameters, const std::vector<TensorEnd>& tensors,
                const float* values, size_t step, float* squares) {
  const FloatEnvironment environment;
  ops.sums_of_squares(tensors.data(), tensors.size(), values, squares);
  const float norm = std::sqrt(ops.row_sum(squares, tensors.size()));
  if (!std::isfinite(norm)) require_finite(ops, parameters, {values, tensors.back().end}, step);
  return norm;
}

}  // namespace

NumericFailure::NumericFailure(std::string failed, size_t at)
    : std::runtime_error("numeric failure: " + failed + " is not finite at step " + std::to_string(at)),
      tensor(std::move(failed)),
      step(at) {}

Cancelled::Cancelled() : std::runtime_error("computation cancelled") {}

void refuse_element(const std::vector<Parameter>& parameters, size_t element, size_t step) {
  const auto holder = std::find_if(parameters.begin(), parameters.end(),
                                   [element](const Parameter& p) { return element < p.offset + p.count; });
  throw NumericFailure(holder->name, step);
}

float norm_of(Ops& ops, const std::vector<Parameter>& parameters, std::span<const float> values, size_t step) {
  std::vector<float> squares(parameters.size());
  return norm_into(ops, parameters, ends_of(parameters), values.data(), step, squares.data());
}

struct Trainer::Impl {
  Impl(const ModelConfig& model, size_t planned_batch, size_t planned_context, Ops& engine, Settings settings)
      : config(model),
        batch_limit(planned_batch),
        context(planned_context),
        ops(engine),
        purpose(settings.purpose),
        profile(settings.profile),
        parameters(parameters_of(model)),
        tensors(ends_of(parameters)),
        memory(engine, bytes_of(model, planned_batch, planned_context, engine, settings)),
        arena(memory.base()),
        plan(model, planned_batch, planned_context, engine, settings, arena) {
    if (!ops.in_host_memory()) host_tokens.resize(2 * plan.sequences * context);
  }

  size_t parameter_total() const { return parameters.back().offset + parameters.back().count; }
  void require_purpose(bool ok, const char* method) const;
  const float* take(std::span<const float> weights, bool check = true);
  float* place_for(std::span<float> result) const { return plan.result ? plan.result : result.data(); }
  bool fits(std::span<float> result) const {
    return result.size() == parameter_total() || (plan.result != nullptr && result.empty());
  }
  void give(std::span<float> result) const;
  void check_batch(const TokenBatch& batch) const;
  size_t micro_batches_of(const TokenBatch& batch) const { return (batch.batch + plan.sequences - 1) / plan.sequences; }
  MicroBatch load(const TokenBatch& batch, size_t index);
  void compute_or_repeat(const Work& work, const MicroBatch& micro_batch, const Cancel& cancel);
  void compute(const Work& work, const MicroBatch& micro_batch, const Cancel& cancel);
  float gradient(const float* weights, const TokenBatch& batch, size_t step, float* gradients, const OnBlock* on_block,
                 const Cancel& cancel);
  void block_gradient(const Work& work, const MicroBatch& block, const Cancel& cancel);
  void unscale(const Work& work, float* values);
  void clip(float max_norm, size_t step);
  void adamw(const LocalAdamW& optimiser, const AdamWStep& numbers, float* weights);

  const ModelConfig config;
  const size_t batch_limit, context;
  Ops& ops;
  const Purpose purpose;
  const Profile profile;
  const std::vector<Parameter> parameters;
  const std::vector<TensorEnd> tensors;  // of the parameters
  ArenaMemory memory;
  Arena arena;
  Plan plan;
  const float* kept_weights = nullptr;           // the caller's, already checked and taken
  std::unique_ptr<RepeatedOperations> repeated;  // what full micro-batches come to, if ops gains by it,
  Work repeated_work;                            // in this work

  std::vector<uint16_t> host_tokens;  // (2M), where the operations compute in memory of their own: on their way there
};

void Trainer::Impl::require_purpose(bool ok, const char* method) const {
  if (!ok) throw std::logic_error(std::string("trainer: ") + method + " was not planned for (see Trainer::Purpose)");
}

// The weights in the operations' memory.
const float* Trainer::Impl::take(std::span<const float> weights, bool check) {
  if (weights.size() != parameter_total())
    refuse(std::to_string(weights.size()) + " weights; the model has " + std::to_string(parameter_total()));
  const float* const taken = plan.weights ? plan.weights : weights.data();
  if (weights.data() == kept_weights) return taken;
  kept_weights = nullptr;
  if (plan.weights) ops.write(plan.weights, weights.data(), weights.size_bytes());
  if (check) require_finite(ops, parameters, {taken, weights.size()}, 0);
  return taken;
}

void Trainer::Impl::give(std::span<float> result) const {
  if (plan.result && !result.empty()) ops.read(result.data(), plan.result, result.size_bytes());
}

void Trainer::Impl::check_batch(const TokenBatch& batch) const {
  if (batch.context != context)
    refuse("context " + std::to_string(batch.context) + "; planned " + std::to_string(context));
  if (batch.batch < 1 || batch.batch > batch_limit)
    refuse("batch " + std::to_string(batch.batch) + "; planned 1 to " + std::to_string(batch_limit));
  if (batch.tokens.size() != batch.batch * (context + 1))
    refuse(std::to_string(batch.tokens.size()) + " tokens; a batch of " + times(batch.batch, context + 1) +
           " is needed");
  const auto outside = std::find_if(batch.tokens.begin(), batch.tokens.end(),
                                    [this](uint16_t token) { return token >= config.vocabulary; });
  if (outside == batch.tokens.end()) return;
  const size_t place = static_cast<size_t>(outside - batch.tokens.begin());
  refuse("token " + std::to_string(*outside) + " in row " + std::to_string(place / (context + 1)) + ", column " +
         std::to_string(place % (context + 1)) + " is outside the vocabulary of " + std::to_string(config.vocabulary));
}

// A row of context + 1 tokens becomes context inputs and, one further, context targets. They are written at once: a
// second write would wait for the first, and that for all that is queued.
MicroBatch Trainer::Impl::load(const TokenBatch& batch, size_t index) {
  const size_t first = index * plan.sequences, count = std::min(plan.sequences, batch.batch - first);
  const size_t inputs = count * context;
  uint16_t* const tokens = ops.in_host_memory() ? plan.tokens : host_tokens.data();
  for (size_t s = 0; s < count; ++s) {
    const uint16_t* row = batch.tokens.data() + (first + s) * (context + 1);
    std::copy_n(row, context, tokens + s * context);
    std::copy_n(row + 1, context, tokens + inputs + s * context);
  }
  if (tokens != plan.tokens) ops.write(plan.tokens, tokens, 2 * inputs * sizeof(uint16_t));
  return {.sequences = count, .context = context, .ids = plan.tokens, .targets = plan.tokens + inputs};
}

// Section 4: blocks upward from +0; the tied embedding has two sums.
float Trainer::Impl::gradient(const float* weights, const TokenBatch& batch, size_t step, float* gradients,
                              const OnBlock* on_block, const Cancel& cancel) {
  const FloatEnvironment environment;
  check_batch(batch);
  plan.network->prepare(weights);
  const size_t tokens = batch.batch * context, embedding = config.vocabulary * config.channels;
  const Work work{.weights = weights, .gradients = gradients, .tokens = tokens, .alone = on_block != nullptr};
  ops.zero(gradients, parameter_total() * sizeof(float));
  if (config.tied_head) ops.zero(plan.embedding_gradient, embedding * sizeof(float));
  for (size_t index = 0; index < micro_batches_of(batch); ++index) {
    if (cancel && cancel()) throw Cancelled();
    const MicroBatch part = load(batch, index);
    compute_or_repeat(work, part, cancel);
    ops.copy(plan.losses + index * plan.sequences * context, plan.micro_batch_losses, part.tokens() * sizeof(float));
    if (on_block) (*on_block)(index, {plan.block_gradient, parameter_total()});
  }
  if (config.tied_head) ops.add(plan.embedding_gradient, gradients, embedding);
  unscale(work, gradients);
  const float loss = ops.row_sum(plan.losses, tokens) / static_cast<float>(tokens);
  if (!std::isfinite(loss)) throw NumericFailure("loss", step);
  return loss;
}

// A micro-batch's operations are the same each time, with the same arguments, but for a last one of fewer sequences.
void Trainer::Impl::compute_or_repeat(const Work& work, const MicroBatch& micro_batch, const Cancel& cancel) {
  if (micro_batch.sequences != plan.sequences) return compute(work, micro_batch, cancel);
  if (!(work == repeated_work)) {
    repeated = ops.repeated();
    repeated_work = work;
  }
  if (!repeated) return compute(work, micro_batch, cancel);
  repeated->run([&] { compute(work, micro_batch, cancel); });
}

void Trainer::Impl::compute(const Work& work, const MicroBatch& micro_batch, const Cancel& cancel) {
  plan.network->forward(work.weights, micro_batch, cancel);
  const float scale_gradient = gradient_scale(ops, profile, work.tokens) / static_cast<float>(work.tokens);
  plan.network->losses(work.weights, micro_batch, scale_gradient, plan.micro_batch_losses, cancel);
  if (work.alone) return block_gradient(work, micro_batch, cancel);
  float* const embedding_gradient = config.tied_head ? plan.embedding_gradient : work.gradients;
  plan.network->backward(work.weights, micro_batch, {work.gradients, embedding_gradient}, cancel);
}

// One block's gradient from +0 by itself, then added: the same bits as adding into the sums at once.
void Trainer::Impl::block_gradient(const Work& work, const MicroBatch& block, const Cancel& cancel) {
  const size_t embedding = config.vocabulary * config.channels;
  float* const own_embedding = config.tied_head ? plan.block_embedding_gradient : plan.block_gradient;
  ops.zero(plan.block_gradient, parameter_total() * sizeof(float));
  if (config.tied_head) ops.zero(own_embedding, embedding * sizeof(float));
  plan.network->backward(work.weights, block, {plan.block_gradient, own_embedding}, cancel);
  ops.add(plan.block_gradient, work.gradients, parameter_total());
  if (config.tied_head) {
    ops.add(own_embedding, plan.embedding_gradient, embedding);
    ops.add(own_embedding, plan.block_gradient, embedding);
  }
  unscale(work, plan.block_gradient);
}

void Trainer::Impl::unscale(const Work& work, float* values) {
  const float scale = gradient_scale(ops, profile, work.tokens);
  if (scale != 1) ops.scale(1 / scale, values, parameter_total());
}

void Trainer::Impl::clip(float max_norm, size_t step) {
  const FloatEnvironment environment;
  const float d = norm_into(ops, parameters, tensors, plan.gradient, step, plan.squares) + 1e-6f;
  if (d > max_norm) ops.scale(max_norm / d, plan.gradient, parameter_total());
}

void Trainer::Impl::adamw(const LocalAdamW& optimiser, const AdamWStep& numbers, float* weights) {
  ops.adamw({.tensor_count = tensors.size(),
             .tensors = tensors.data(),
             .beta1 = optimiser.beta1,
             .one_minus_beta1 = optimiser.one_minus_beta1,
             .beta2 = optimiser.beta2,
             .one_minus_beta2 = optimiser.one_minus_beta2,
             .epsilon = optimiser.epsilon,
             .decay = numbers.decay,
             .step_size = numbers.step_size,
             .inv_sqrt_bc2 = numbers.inv_sqrt_bc2,
             .g = plan.gradient,
             .w = weights,
             .m = plan.moment_1,
             .v = plan.moment_2});
}

Trainer::Trainer(const ModelConfig& config, size_t batch, size_t context, Ops& ops, Settings settings) {
  validate(config, batch, context, ops, settings);
  impl_ = std::make_unique<Impl>(config, batch, context, ops, settings);
}

Trainer::~Trainer() = default;

size_t Trainer::planned_bytes(const ModelConfig& config, size_t batch, size_t context, Ops& ops, Settings settings) {
  validate(config, batch, context, ops, settings);
  return bytes_of(config, batch, context, ops, settings) + ops.own_bytes();
}

Trainer::Settings Trainer::settings_within(size_t limit, const ModelConfig& config, size_t batch, size_t context,
                                           Ops& ops, Settings settings) {
  const size_t blocks = blocks_in(batch, context), wanted = ops.wanted_tokens() / (block_sequences(context) * context);
  const size_t most = settings.purpose == Purpose::block_gradients ? 1 : std::clamp<size_t>(wanted, 1, blocks);
  for (const bool recompute : {false, true}) {
    settings.recompute = recompute;
    for (size_t count = most; count > 0; --count) {
      const size_t micro_batches = (blocks + count - 1) / count;
      settings.micro_batch = (blocks + micro_batches - 1) / micro_batches;  // as equal as whole blocks can be
      if (planned_bytes(config, batch, context, ops, settings) <= limit) return settings;
    }
  }
  return settings;
}

size_t Trainer::block_count() const { return blocks_in(impl_->batch_limit, impl_->context); }

void Trainer::keep(std::span<const float> weights) {
  Impl& impl = *impl_;
  impl.kept_weights = nullptr;
  impl.take(weights);
  impl.kept_weights = weights.data();
}

float Trainer::gradient(std::span<const float> weights, const TokenBatch& batch, std::span<float> gradients,
                        const OnBlock& on_block, const Cancel& cancel) {
  Impl& impl = *impl_;
  impl.require_purpose(impl.purpose == (on_block ? Purpose::block_gradients : Purpose::gradient) ||
                           impl.purpose == Purpose::block_gradients,
                       on_block ? "gradient() with on_block" : "gradient()");
  const float* const w = impl.take(weights);
  if (!impl.fits(gradients)) refuse("gradients and weights differ in size");
  float* const sum = impl.place_for(gradients);
  OnBlock after_reading;
  if (on_block && impl.plan.result && !gradients.empty()) {
    after_reading = [&](size_t block, std::span<const float> gradient) {
      impl.ops.read(gradients.data(), gradient.data(), gradient.size_bytes());  // what belongs there comes at the end
      on_block(block, gradients);
    };
  }
  const OnBlock& each = after_reading ? after_reading : on_block;
  const float loss = impl.gradient(w, batch, 0, sum, on_block ? &each : nullptr, cancel);
  require_finite(impl.ops, impl.parameters, {sum, weights.size()}, 0);
  impl.give(gradients);
  return loss;
}

std::vector<float> Trainer::local_steps(std::span<const float> weights, const LocalAdamW& optimiser,
                                        const NextBatch& next_batch, std::span<float> difference,
                                        const Cancel& cancel) {
  Impl& impl = *impl_;
  Ops& ops = impl.ops;
  impl.require_purpose(impl.purpose == Purpose::local_steps, "local_steps()");
  const float* const start = impl.take(weights);
  if (!impl.fits(difference)) refuse("difference and weights differ in size");
  if (optimiser.steps.empty()) refuse("no local steps");

  float* const working = impl.place_for(difference);  // (P)
  ops.copy(working, start, weights.size_bytes());
  ops.zero(impl.plan.moment_1, weights.size_bytes());
  ops.zero(impl.plan.moment_2, weights.size_bytes());
  std::vector<float> losses(optimiser.steps.size());
  for (size_t step = 0; step < losses.size(); ++step) {
    losses[step] = impl.gradient(working, next_batch(step), step, impl.plan.gradient, nullptr, cancel);
    if (optimiser.max_grad_norm > 0) impl.clip(optimiser.max_grad_norm, step);
    impl.adamw(optimiser, optimiser.steps[step], working);
  }
  ops.subtract(start, working, working, weights.size());
  require_finite(ops, impl.parameters, {working, weights.size()}, losses.size() - 1);
  impl.give(difference);
  return losses;
}

std::span<const float> Trainer::result() const {
  impl_->require_purpose(impl_->plan.result != nullptr && impl_->purpose != Purpose::evaluate, "result()");
  return {impl_->plan.result, impl_->parameter_total()};
}

std::vector<float> Trainer::evaluate(std::span<const float> weights, const TokenBatch& batch, const Cancel& cancel) {
  const FloatEnvironment environment;
  Impl& impl = *impl_;
  impl.require_purpose(impl.purpose == Purpose::evaluate, "evaluate()");
  const float* const w = impl.take(weights);
  impl.check_batch(batch);
  impl.plan.network->prepare(w);
  const size_t block = block_sequences(impl.context) * impl.context;
  std::vector<float> means;
  for (size_t index = 0; index < impl.micro_batches_of(batch); ++index) {
    const MicroBatch part = impl.load(batch, index);
    impl.plan.network->forward(w, part, cancel);
    impl.plan.network->losses(w, part, 0, impl.plan.losses, cancel);
    for (size_t first = 0; first < part.tokens(); first += block) {
      const size_t tokens = std::min(block, part.tokens() - first);
      means.push_back(impl.ops.row_sum(impl.plan.losses + first, tokens) / static_cast<float>(tokens));
      if (!std::isfinite(means.back())) throw NumericFailure("loss", means.size() - 1);
    }
  }
  return means;
}

void Trainer::logits(std::span<const float> weights, std::span<const uint16_t> tokens, std::span<float> logits) {
  Impl& impl = *impl_;
  impl.require_purpose(impl.purpose == Purpose::evaluate, "logits()");
  if (logits.size() != impl.config.vocabulary) refuse("logits needs one float per token of the vocabulary");
  if (tokens.empty() || tokens.size() > impl.context)
    refuse(std::to_string(tokens.size()) + " tokens; planned 1 to " + std::to_string(impl.context));
  for (uint16_t token : tokens)
    if (token >= impl.config.vocabulary)
      refuse("token " + std::to_string(token) + " is outside the vocabulary of " +
             std::to_string(impl.config.vocabulary));
  const bool on_host = impl.ops.in_host_memory();
  if (!on_host) impl.ops.write(impl.plan.tokens, tokens.data(), tokens.size_bytes());
  const float* const w = impl.take(weights, false);
  const MicroBatch row{.sequences = 1, .context = tokens.size(), .ids = on_host ? tokens.data() : impl.plan.tokens};
  float* const out = impl.place_for(logits);
  impl.plan.network->prepare(w);
  impl.plan.network->forward(w, row, {});
  impl.plan.network->logits(w, tokens.size() - 1, out);
  impl.give(logits);
}

}  // namespace kernels
