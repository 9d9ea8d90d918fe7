#include "unit_runner.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "cards.h"
#include "kernels/cuda_cards.h"
#include "lane_queue.h"
#include "protocol/blob.h"
#include "unit_blob.h"
#include "unit_memory.h"
#include "unit_refused.h"

namespace agent {

// One unit on its way. Its workers' threads share it.
class UnitRunner::Computation {
 public:
  Computation(const protocol::Unit& unit, const kernels::ModelConfig& config, const UnitPlan& plan,
              std::span<const float> weights, const ReadTokens& read_tokens, const OnProgress& on_progress,
              const kernels::Cancel& cancel, UnitRunner& runner)
      : unit_(unit),
        config_(config),
        plan_(plan),
        weights_(weights),
        read_tokens_(read_tokens),
        on_progress_(on_progress),
        cancel_(cancel),
        cpu_(runner.ops()),
        on_card_failed_(runner.on_card_failed_),
        on_links_failed_(runner.on_links_failed_),
        on_card_short_(runner.on_card_short_),
        sets_(*runner.sets_),
        exchange_(sets_),
        queue_(lanes_of(unit)),
        tokens_(lanes_of(unit)),
        lanes_(lanes_of(unit)),
        tree_(lanes_.size(), kernels::parameter_count(config), cpu_) {}

  // Before any of them has buffers: that they may pass lanes to each other.
  void link(const Cards& cards);
  // Whether this worker has the memory; it then has the buffers.
  bool reserve(LaneWorker& worker);
  // The thread of one worker that has: until nothing is left to do, or its card fails.
  void work(LaneWorker& worker);
  // Not all workers have threads: those that do end soon, since nobody wants the unit any more.
  void abandon();
  // When all threads have ended:
  bool unfinished() const { return queue_.waiting(); }
  // Adds what cards hold. The lane of one that fails, or runs out of memory, has to be computed again.
  void add_held_lanes();
  // Takes those that have failed from `cards`; nothing passes over their links any more.
  void leave_out_failed(Cards& cards);
  UnitResult finish();

 private:
  double expected_seconds(const LaneWorker& worker) const;
  bool has_sum() const { return unit_.kind != protocol::UnitKind::evaluate; }
  void links_failed(const std::string& what);
  bool cancelled();
  void compute_lanes(LaneWorker& worker, size_t place);
  void compute(LaneWorker& worker, uint64_t lane);
  void keep(LaneWorker& worker, uint64_t lane);
  void add_on_card(LaneWorker& worker);
  void encode_own_sum();
  bool lose_own_sum(const LaneWorker& worker);  // whether it had one
  void take_held_lane(LaneWorker& worker);
  void lose_held_lane(LaneWorker& worker);
  void progress(uint64_t lane, uint64_t tokens);
  void card_failed(LaneWorker& worker, const std::string& what);
  void ran_out(LaneWorker& worker, const std::string& what);
  void shrink(LaneWorker& worker);
  UnitBlob& start_result();

  const protocol::Unit& unit_;
  const kernels::ModelConfig& config_;
  const UnitPlan& plan_;
  const std::span<const float> weights_;
  const ReadTokens& read_tokens_;
  const OnProgress& on_progress_;
  const kernels::Cancel& cancel_;
  kernels::Ops& cpu_;
  const OnCardFailed& on_card_failed_;
  const OnLinksFailed& on_links_failed_;
  const OnCardShort& on_card_short_;
  CardSets& sets_;
  LaneExchange exchange_;
  LaneQueue queue_;
  std::map<LaneWorker*, size_t> places_;  // in the queue

  std::mutex calls_;  // of the caller's functions, and over what they tell
  bool abandoned_ = false;
  std::vector<uint64_t> tokens_;  // done, lane by lane
  std::vector<LaneWorker*> failed_;
  std::string failures_;
  std::map<std::string, std::string> lacks_;  // by the names of cards that have not the memory
  struct RanOut {
    uint64_t planned_bytes, linked;
    std::string what;
  };
  std::map<LaneWorker*, RanOut> ran_out_;  // in the midst of a lane, since they were reserved
  std::map<LaneWorker*, uint64_t> most_;   // bytes of their next plan, of those that have run out

  std::mutex taking_;   // of one lane at a time: few are then in the host's memory
  std::mutex results_;  // over what follows, and the CPU's operations
  std::vector<LaneResult> lanes_;
  std::map<LaneWorker*, uint64_t> held_;  // by cards: the last lane of each, which is not in the tree
  kernels::LaneTree tree_;
  // Where one card computes the unit, and has the room: its lanes, which do not cross.
  struct OwnSum {
    LaneWorker& card;
    kernels::LaneTree tree;
    std::vector<uint64_t> lanes;
  };
  std::optional<OwnSum> own_sum_;
  bool may_add_on_card_ = true;   // until a card has been reserved
  std::span<const float> only_;   // the CPU's lane where there is no other
  std::optional<UnitBlob> blob_;  // once all lanes are added
};

void UnitRunner::Computation::card_failed(LaneWorker& worker, const std::string& what) {
  lose_held_lane(worker);
  lose_own_sum(worker);
  const std::lock_guard lock(calls_);
  failed_.push_back(&worker);
  failures_ += (failures_.empty() ? "" : "; ") + what;
  if (on_card_failed_) on_card_failed_(worker.name(), unit_.name + ": " + what);
}

// At once: the memory is wanted by somebody else, and what is free now is what the next plan may take.
void UnitRunner::Computation::ran_out(LaneWorker& worker, const std::string& what) {
  lose_held_lane(worker);
  const bool had_own_sum = lose_own_sum(worker);  // then its plan is as good as before without that
  const uint64_t planned = worker.planned_bytes();
  worker.free_buffers();
  const std::lock_guard lock(calls_);
  if (!had_own_sum) ran_out_[&worker] = {planned, sets_.bytes_on(worker), what};
  if (on_card_short_) on_card_short_(worker.name(), unit_.name + ": " + what);
}

// Of one that has run out: links give back what they took, if another card's have not done so, or the next plan is
// smaller.
void UnitRunner::Computation::shrink(LaneWorker& worker) {
  const auto out = ran_out_.extract(&worker);
  if (!out) return;
  const auto on_failed = [this](const std::string& what) { links_failed(what); };
  const auto& [planned, linked, what] = out.mapped();
  if (!exchange_.unlink(worker, what, on_failed) && linked == 0) most_[&worker] = planned - 1;
}

void UnitRunner::Computation::links_failed(const std::string& what) {
  const std::lock_guard lock(calls_);
  if (on_links_failed_) on_links_failed_(unit_.name + ": " + what);
}

void UnitRunner::Computation::link(const Cards& cards) {
  if (!has_sum()) return;
  try {
    exchange_.link(
        cards, [this] { return cancelled(); }, [this](const std::string& what) { links_failed(what); });
  } catch (const CardFailed& failure) {  // the others are linked when they work together next
    card_failed(failure.card, failure.what());
  }
}

bool UnitRunner::Computation::reserve(LaneWorker& worker) {
  shrink(worker);
  const uint64_t linked = sets_.bytes_on(worker);
  try {
    const size_t exchange = exchange_.buffer_values(kernels::parameter_count(config_), lanes_.size());
    const auto most = most_.find(&worker);
    worker.plan_buffers(unit_, config_, plan_.settings, exchange, linked,
                        most == most_.end() ? std::nullopt : std::optional(most->second));
    add_on_card(worker);
    places_[&worker] = queue_.enlist(expected_seconds(worker));
    return true;
  } catch (const kernels::CudaOutOfMemory& error) {
    const auto on_failed = [this](const std::string& what) { links_failed(what); };
    // Or another unit, on another of their cards, has ended the links since.
    if (exchange_.unlink(worker, error.what(), on_failed) || linked > 0) return reserve(worker);
    lacks_[worker.name()] = error.what();
  } catch (const kernels::CudaError& error) {
    card_failed(worker, error.what());
  }
  return false;
}

// Where it computes all lanes and has the room, it adds them itself. Only the first card of a unit: when it has failed,
// or runs short, lanes may be elsewhere.
void UnitRunner::Computation::add_on_card(LaneWorker& worker) {
  if (!std::exchange(may_add_on_card_, false) || plan_.cards != 1 || lanes_.size() == 1) return;
  const size_t count = kernels::parameter_count(config_);
  const uint64_t sums = tree_sums(lanes_.size(), lanes_.size(), 1) * count * sizeof(float);
  if (sums + worker.ops().own_bytes() > plannable_bytes(worker.ops())) return;
  own_sum_.emplace(OwnSum{worker, {lanes_.size(), count, worker.ops()}, {}});
}

// Of a lane, by the speed that was measured when the worker started; 0 where none was.
double UnitRunner::Computation::expected_seconds(const LaneWorker& worker) const {
  const double tokens = static_cast<double>(unit_.tokens) / static_cast<double>(lanes_.size());
  const double flops = tokens * kernels::training_flops_per_token(config_, unit_.context);
  return worker.figures().flops > 0 ? flops / worker.figures().flops : 0;
}

void UnitRunner::Computation::work(LaneWorker& worker) {
  const size_t place = places_.at(&worker);
  compute_lanes(worker, place);
  queue_.dismiss(place);
}

void UnitRunner::Computation::compute_lanes(LaneWorker& worker, size_t place) {
  bool ready = false;
  while (const std::optional<uint64_t> lane = queue_.take(place)) {
    try {
      take_held_lane(worker);
      if (!ready) worker.take_weights(weights_);
      ready = true;
      compute(worker, *lane);
      queue_.done(place);
    } catch (const kernels::CudaOutOfMemory& error) {
      ran_out(worker, error.what());
      queue_.give_back(place, *lane);
      return;
    } catch (const kernels::CudaError& error) {
      card_failed(worker, error.what());
      queue_.give_back(place, *lane);
      return;
    } catch (...) {
      queue_.fail(place, *lane, std::current_exception());
    }
  }
}

bool UnitRunner::Computation::cancelled() {
  const std::lock_guard lock(calls_);
  return abandoned_ || (cancel_ && cancel_());
}

void UnitRunner::Computation::abandon() {
  {
    const std::lock_guard lock(calls_);
    abandoned_ = true;
  }
  for (const auto& [worker, place] : places_) queue_.dismiss(place);  // nobody leaves a lane to one without a thread
}

void UnitRunner::Computation::compute(LaneWorker& worker, uint64_t lane) {
  const kernels::Cancel cancel = [this] { return cancelled(); };
  const auto on_tokens = [&](uint64_t tokens) { progress(lane, tokens); };
  LaneResult result = worker.compute(unit_, lane, weights_, read_tokens_, on_tokens, cancel);
  {
    const std::lock_guard lock(results_);
    lanes_[lane] = std::move(result);
    if (has_sum()) keep(worker, lane);
  }
  progress(lane, unit_.tokens / lanes_.size());
}

// Lanes are added at once where they are, if that is where the sum is; else when a card needs the room for the next
// one, or at the end.
void UnitRunner::Computation::keep(LaneWorker& worker, uint64_t lane) {
  if (own_sum_ && &own_sum_->card == &worker) {
    own_sum_->tree.add(lane, worker.result());
    own_sum_->lanes.push_back(lane);
    return;
  }
  if (!worker.ops().in_host_memory()) {
    held_[&worker] = lane;
    return;
  }
  if (lanes_.size() == 1) {
    only_ = worker.result();
  } else {
    tree_.add(lane, worker.result());
  }
}

void UnitRunner::Computation::take_held_lane(LaneWorker& worker) {
  const std::lock_guard one(taking_);
  uint64_t lane;
  kernels::LaneTree::Values values;
  {
    const std::lock_guard lock(results_);
    const auto held = held_.find(&worker);
    if (held == held_.end()) return;
    lane = held->second;
    values = tree_.room();
  }
  float* end = values.get();
  worker.read_result([&](std::span<const float> piece) {
    if (cancelled()) throw kernels::Cancelled();
    end = std::ranges::copy(piece, end).out;
  });
  const std::lock_guard lock(results_);
  tree_.add(lane, std::move(values));
  held_.erase(&worker);
}

void UnitRunner::Computation::lose_held_lane(LaneWorker& worker) {
  const std::lock_guard lock(results_);
  const auto held = held_.find(&worker);
  if (held == held_.end()) return;
  queue_.lost(held->second);
  held_.erase(held);
}

bool UnitRunner::Computation::lose_own_sum(const LaneWorker& worker) {
  const std::lock_guard lock(results_);
  if (!own_sum_ || &own_sum_->card != &worker) return false;
  for (const uint64_t lane : own_sum_->lanes) queue_.lost(lane);
  own_sum_.reset();
  return true;
}

void UnitRunner::Computation::encode_own_sum() {
  LaneWorker& card = own_sum_->card;
  try {
    start_result().put_all(own_sum_->tree.sum(), card.ops(), [this] { return cancelled(); });
    return;
  } catch (const kernels::CudaOutOfMemory& error) {
    ran_out(card, error.what());
  } catch (const kernels::CudaError& error) {
    card_failed(card, error.what());
  }
  blob_.reset();
}

void UnitRunner::Computation::add_held_lanes() {
  queue_.rethrow();
  if (own_sum_) return encode_own_sum();
  if (held_.empty()) return;
  std::vector<HeldLane> lanes;
  for (const auto& [worker, lane] : held_) lanes.push_back({lane, worker, {}});
  UnitBlob& sum = start_result();
  const auto on_failed = [this](const std::string& what) { links_failed(what); };
  if (!exchange_.sum(
          tree_, lanes, sum, [this] { return cancelled(); }, on_failed))
    blob_.reset();
  for (const HeldLane& held : lanes) {
    if (held.failure.empty()) continue;
    held.out_of_memory ? ran_out(*held.worker, held.failure) : card_failed(*held.worker, held.failure);
  }
}

void UnitRunner::Computation::leave_out_failed(Cards& cards) {
  const auto has_failed = [this](const auto& card) { return std::ranges::count(failed_, card.get()) > 0; };
  for (const auto& card : cards) {
    if (has_failed(card)) exchange_.card_failed(*card);
  }
  std::erase_if(cards, has_failed);
}

void UnitRunner::Computation::progress(uint64_t lane, uint64_t tokens) {
  const std::lock_guard lock(calls_);
  tokens_[lane] = tokens;
  uint64_t all = 0;
  for (const uint64_t of_lane : tokens_) all += of_lane;
  on_progress_(all);
}

UnitBlob& UnitRunner::Computation::start_result() {
  return blob_.emplace(protocol::BlobKind::result, protocol::codec_from_name(unit_.codec),
                       kernels::parameter_count(config_));
}

UnitResult UnitRunner::Computation::finish() {
  if (unfinished()) {
    if (lacks_.empty()) throw NoCardLeft(failures_);
    std::string all = failures_;
    for (const auto& [card, what] : lacks_) all += (all.empty() ? "" : "; ") + what;
    throw UnitRefused("has no card: " + all);
  }
  queue_.rethrow();
  std::vector<float> losses;  // lane by lane, steps upward
  std::vector<protocol::Digest> segments;
  for (const LaneResult& lane : lanes_) {
    losses.insert(losses.end(), lane.losses.begin(), lane.losses.end());
    segments.insert(segments.end(), lane.segments.begin(), lane.segments.end());
  }
  UnitResult result;
  result.loss = cpu_.row_sum(losses.data(), losses.size()) / static_cast<float>(losses.size());
  result.segments_root = protocol::merkle_root(segments);
  if (!has_sum()) {
    blob_.emplace(protocol::BlobKind::losses, protocol::CodecId::fp32, losses.size()).put(0, losses, cpu_);
  } else if (!blob_) {
    start_result().put(0, only_.empty() ? tree_.sum() : only_, cpu_);
  }
  const size_t bad = blob_->first_non_finite();
  if (bad < blob_->count()) kernels::refuse_element(kernels::parameters_of(config_), bad, unit_.steps - 1);
  result.blob = blob_->take();
  result.digest = protocol::sha256(result.blob);
  result.tokens = unit_.tokens;
  return result;
}

UnitRunner::UnitRunner(MakeOps make_cpu_ops, std::shared_ptr<CardSets> sets)
    : cpu_("cpu", std::move(make_cpu_ops)), sets_(std::move(sets)) {}
UnitRunner::~UnitRunner() = default;

void UnitRunner::use_cards(Cards cards, OnCardFailed on_card_failed, OnLinksFailed on_links_failed,
                           OnCardShort on_card_short) {
  cards_ = std::move(cards);
  on_card_failed_ = std::move(on_card_failed);
  on_links_failed_ = std::move(on_links_failed);
  on_card_short_ = std::move(on_card_short);
}

void UnitRunner::free_buffers() {
  cpu_.free_buffers();
  for (const auto& card : cards_) card->free_buffers();
}

UnitPlan UnitRunner::plan(const protocol::Unit& unit, const kernels::ModelConfig& config, uint64_t limit) {
  if (!cards_.empty()) {
    size_t cards = std::min<uint64_t>(cards_.size(), lanes_of(unit));
    while (cards > 1 && host_bytes_on_cards(unit, config, cards) > limit) --cards;
    return {settings_of(unit), cards, host_bytes_on_cards(unit, config, cards)};
  }
  const uint64_t besides = host_bytes_on_cpu(unit, config);
  const kernels::Trainer::Settings settings = kernels::Trainer::settings_within(
      limit > besides ? limit - besides : 0, config, unit.batch, unit.context, ops(), settings_of(unit));
  return {settings, 0, besides + kernels::Trainer::planned_bytes(config, unit.batch, unit.context, ops(), settings)};
}

// As many cards as planned, each with a thread, then all together. False where none has the memory.
bool UnitRunner::work_on_cards(Computation& computation, size_t count) {
  std::vector<LaneWorker*> workers;
  for (const auto& card : cards_) {
    if (workers.size() < count && computation.reserve(*card)) workers.push_back(card.get());
  }
  std::exception_ptr refused;
  {
    std::vector<std::jthread> threads;
    try {
      for (LaneWorker* worker : workers) threads.emplace_back([&computation, worker] { computation.work(*worker); });
    } catch (...) {
      refused = std::current_exception();
      computation.abandon();
    }
  }
  computation.leave_out_failed(cards_);
  if (refused) std::rethrow_exception(refused);
  if (!computation.unfinished()) computation.add_held_lanes();
  computation.leave_out_failed(cards_);
  return !workers.empty();
}

UnitResult UnitRunner::run(const protocol::Unit& unit, const kernels::ModelConfig& config, const UnitPlan& plan,
                           std::span<const float> weights, const ReadTokens& read_tokens, const OnProgress& on_progress,
                           const kernels::Cancel& cancel) {
  const auto begin = std::chrono::steady_clock::now();
  Computation computation(unit, config, plan, weights, read_tokens, on_progress, cancel, *this);
  if (cards_.empty()) {
    if (computation.reserve(cpu_)) computation.work(cpu_);
  } else {
    computation.link(
        {cards_.begin(), cards_.begin() + static_cast<std::ptrdiff_t>(std::min(plan.cards, cards_.size()))});
    computation.leave_out_failed(cards_);
    while (computation.unfinished() && work_on_cards(computation, plan.cards)) continue;
  }
  UnitResult result = computation.finish();
  on_progress(unit.tokens);
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return result;
}

}  // namespace agent
