#include "cards.h"

#include <algorithm>
#include <charconv>
#include <cstdio>

#include "exit.h"
#include "kernels/card_links.h"

namespace agent {
namespace {

constexpr char prefix[] = "cuda:";
constexpr uint64_t reserved_bytes = 64 << 20;

// The number in "cuda:1"; none in "cuda".
std::optional<size_t> number_in(const std::string& device) {
  if (device == "cuda") return std::nullopt;
  size_t number = 0;
  const char* const end = device.data() + device.size();
  const bool named = device.rfind(prefix, 0) == 0;
  const auto [last, error] = std::from_chars(device.data() + (named ? sizeof prefix - 1 : 0), end, number);
  if (named && error == std::errc() && last == end) return number;
  throw Failure(Exit::usage, "--device " + device + " is unknown; supported: cpu, cuda, cuda:0, cuda:1, …");
}

constexpr char without_cublaslt[] = "; own kernels multiply, what that costs is not measured yet";
constexpr char when_given_back[] = ", when it was given back";

std::unique_ptr<kernels::Ops> open_card(const kernels::CudaCard& card) {
  if (!card.problem.empty()) throw kernels::CudaError(card.problem);
  const auto warn = [](const char* what_follows) {
    return [=](const std::string& line) { std::fprintf(stderr, "gradminer: %s%s\n", line.c_str(), what_follows); };
  };
  return kernels::make_cuda_ops(card, kernels::cuda_timeout,
                                {.cublaslt_failed = warn(without_cublaslt), .give_back_failed = warn(when_given_back)});
}

// For a card of `run`, which computes `unit`. The log outlives it.
LaneWorker::MakeOps logged_ops(const kernels::CudaCard& card, std::chrono::seconds timeout, Log& log,
                               const std::shared_ptr<const std::string>& unit) {
  const auto uses = [&log, card](const std::string& line) {
    log.write(Level::info, "cublaslt", line, {{"card", card.bus_id}});
  };
  const auto failure = [&log, card, unit](const std::string& line) {
    const std::string what = unit->empty() ? line : *unit + ": " + line;  // none when the card is opened
    log.write(Level::warning, "cublaslt_failed", what + without_cublaslt, {{"card", card.bus_id}, {"reason", what}});
  };
  const auto give_back_failed = [&log, card](const std::string& line) {
    log.write(Level::warning, "give_back_failed", line + when_given_back, {{"card", card.bus_id}, {"reason", line}});
  };
  return [=] { return kernels::make_cuda_ops(card, timeout, {uses, failure, give_back_failed}); };
}

LibraryState ask(std::string (*version)(), const char* without) {
  try {
    return {version(), ""};
  } catch (const kernels::CudaError& error) {
    return {"", std::string(error.what()) + without};
  }
}

// The log tells which libraries are missing that the cards would use.
void tell_missing(const std::vector<kernels::CudaCard>& cards, Log& log) {
  if (cards.size() > 1) {
    if (const LibraryState nccl = ask_nccl(); !nccl.problem.empty()) log.write(Level::info, "no_nccl", nccl.problem);
  }
  if (std::ranges::any_of(cards, has_tensor_cores)) {
    const LibraryState cublaslt = ask_cublaslt();
    if (!cublaslt.problem.empty()) log.write(Level::info, "no_cublaslt", cublaslt.problem);
  }
}

// The first card that works.
OpenedCard open_any(const std::vector<kernels::CudaCard>& cards) {
  std::string problems;
  for (const kernels::CudaCard& card : cards) {
    try {
      return {open_card(card), card.bus_id};
    } catch (const std::runtime_error& error) {
      problems += (problems.empty() ? "" : "; ") + std::string(error.what());
    }
  }
  throw kernels::CudaError(problems.empty() ? "no card" : problems);
}

}  // namespace

std::string device_name(size_t number) { return prefix + std::to_string(number); }

OpenedCard open_cuda_device(const std::string& device) {
  const std::optional<size_t> number = number_in(device);
  try {
    const std::vector<kernels::CudaCard> cards = kernels::cuda_cards().cards;
    if (!number) return open_any(cards);
    if (*number < cards.size()) return {open_card(cards[*number]), cards[*number].bus_id};
    throw kernels::CudaError("this machine has " + std::to_string(cards.size()) + " cards, see `gradminer devices`");
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& error) {
    throw Failure(Exit::input, "--device " + device + ": " + error.what());
  }
}

std::vector<RigCard> rig_cards(const Config& config, Log& log) {
  const std::optional<std::vector<uint64_t>>& numbers = config.cuda_devices;
  if (numbers && numbers->empty()) return {};
  const std::chrono::seconds timeout(config.cuda_timeout);
  std::vector<RigCard> chosen;
  std::vector<kernels::CudaCard> working;
  std::vector<kernels::CudaCard> found;
  try {
    found = kernels::cuda_cards(timeout).cards;
    if (found.empty()) log.write(numbers ? Level::warning : Level::info, "no_card", "computing on the CPU: no card");
  } catch (const kernels::CudaError& error) {
    log.write(numbers ? Level::warning : Level::info, "no_card", std::string("computing on the CPU: ") + error.what());
    return {};
  }
  for (const uint64_t number : numbers.value_or(std::vector<uint64_t>{})) {
    if (number < found.size()) continue;
    log.write(Level::warning, "no_card",
              device_name(number) + " is wanted, but this machine has " + std::to_string(found.size()) + " cards");
  }
  for (size_t number = 0; number < found.size(); ++number) {
    const kernels::CudaCard& card = found[number];
    if (numbers && std::find(numbers->begin(), numbers->end(), number) == numbers->end()) continue;
    if (card.problem.empty()) {
      const auto unit = std::make_shared<std::string>();
      chosen.push_back({card.bus_id + " " + card.name, logged_ops(card, timeout, log, unit), card.peak_flops, unit});
      working.push_back(card);
    } else {
      log.write(Level::error, "card_left_out", device_name(number) + " is left out: " + card.problem,
                {{"card", card.bus_id}, {"reason", card.problem}});
    }
  }
  if (chosen.empty() && !found.empty()) {
    log.write(Level::warning, "no_card", "computing on the CPU: none of this machine's cards is used");
  }
  tell_missing(working, log);
  return chosen;
}

LibraryState ask_nccl() {
  return ask(kernels::nccl_version, "; results pass through the host's memory, every card's as a whole");
}

LibraryState ask_cublaslt() { return ask(kernels::cublaslt_version, without_cublaslt); }

bool has_tensor_cores(const kernels::CudaCard& card) { return !card.fast.empty(); }

uint64_t plannable_bytes(kernels::Ops& card) {
  const uint64_t free = card.free_bytes() + card.own_bytes();  // which is held already, and part of each plan
  return free > reserved_bytes ? free - reserved_bytes : 0;
}

}  // namespace agent
