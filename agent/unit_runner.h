// Computes a unit: its lanes on the CPU or spread over cards, their tree sum, the encoded result and its commitments.
// Nothing but the unit, the weights and the tokens decides a bit of it.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <stdexcept>
#include <vector>

#include "kernels/training.h"
#include "lane_exchange.h"
#include "lane_worker.h"
#include "protocol/digest.h"
#include "protocol/messages.h"

namespace agent {

// Tokens of the unit that are done. Called by one thread at a time.
using OnProgress = std::function<void(uint64_t tokens)>;

struct UnitResult {
  std::vector<uint8_t> blob;
  protocol::Digest digest{};  // of the blob
  protocol::Digest segments_root{};
  float loss = 0;
  uint64_t tokens = 0;
  double seconds = 0;
};

// How a unit is computed, and all the memory of the host that it then plans, weights included.
struct UnitPlan {
  kernels::Trainer::Settings settings;
  size_t cards = 0;  // that compute lanes side by side; 0: the CPU
  uint64_t bytes = 0;
};

// Every card has failed; the unit is not complete. what() names them and tells why.
class NoCardLeft : public std::runtime_error {
 public:
  using runtime_error::runtime_error;
};

// One thread at a time.
class UnitRunner {
 public:
  using MakeOps = LaneWorker::MakeOps;
  using Cards = CardSets::Cards;
  // what: one line that names the unit, the card and the call. Called by one thread at a time.
  using OnCardFailed = std::function<void(const std::string& card, const std::string& what)>;
  // Likewise. The card goes on with a smaller plan, or, where there is none, with the next unit.
  using OnCardShort = std::function<void(const std::string& card, const std::string& what)>;
  // what: one line that names unit, call and cards. From then on these cards' results pass through the host's memory.
  using OnLinksFailed = std::function<void(const std::string& what)>;

  // sets: of the rig, shared with others that compute on its cards.
  explicit UnitRunner(MakeOps make_cpu_ops, std::shared_ptr<CardSets> sets = std::make_shared<CardSets>());
  ~UnitRunner();

  // From now on these compute, as long as there are any, and the CPU only adds their lanes.
  void use_cards(Cards cards, OnCardFailed on_card_failed = {}, OnLinksFailed on_links_failed = {},
                 OnCardShort on_card_short = {});
  // Those that have not failed.
  const Cards& cards() const { return cards_; }

  // Of a unit that check_understood() took: the fastest plan of at most `limit` bytes, or the leanest where none fits.
  // The result's bits are the same.
  UnitPlan plan(const protocol::Unit& unit, const kernels::ModelConfig& config, uint64_t limit);

  // A card that fails is left out from then on, and others compute its lanes. One that runs out of memory goes on
  // without links or with a smaller plan; where there is none, it takes no more part in this unit. Throws
  // kernels::NumericFailure (of the lowest lane that has one), kernels::Cancelled, std::invalid_argument (a token
  // outside the vocabulary), NoCardLeft, UnitRefused where no card has the memory, std::system_error where the system
  // refuses a card its thread, and what read_tokens throws. `cancel` is called by one thread at a time.
  UnitResult run(const protocol::Unit& unit, const kernels::ModelConfig& config, const UnitPlan& plan,
                 std::span<const float> weights, const ReadTokens& read_tokens, const OnProgress& on_progress,
                 const kernels::Cancel& cancel);

  // Buffers stay for the next unit of the same shape, until this. Gives the memory back to the system.
  void free_buffers();
  // The CPU's.
  kernels::Ops& ops() { return cpu_.ops(); }

 private:
  class Computation;
  bool work_on_cards(Computation& computation, size_t count);

  LaneWorker cpu_;
  Cards cards_;
  OnCardFailed on_card_failed_;
  OnLinksFailed on_links_failed_;
  OnCardShort on_card_short_;
  const std::shared_ptr<CardSets> sets_;
};

}  // namespace agent
