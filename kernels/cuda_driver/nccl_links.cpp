// Cards linked by NCCL: one process, a communicator of as many ranks as cards.
//
// NCCL's calls may wait for a card and never return. So each goes to a thread of its own, which is left behind where it
// takes too long; what it needs, it owns. For the same reason NCCL's work has a queue of its own on each card: what
// hangs there does not keep the host from reading the card.
#include <algorithm>
#include <atomic>
#include <functional>
#include <future>
#include <thread>
#include <vector>

#include "cuda_driver/card_ops.h"
#include "cuda_driver/nccl.h"
#include "kernels/card_links.h"

namespace kernels {
namespace cuda {
namespace {

struct Rank {
  std::string bus_id;
  Ordinal ordinal = 0;
  Stream stream = nullptr;
  Communicator communicator = nullptr;
};

// What the threads that call NCCL share with whoever waits for them.
struct Clique {
  const Nccl nccl;
  // Takes the context of one of the cards: in a thread without, NCCL makes one on the machine's first card.
  std::function<void()> set_context;
  std::vector<Rank> ranks;
  std::string all;                       // their bus ids
  std::atomic<bool> left_behind{false};  // nobody waits any more for what is called

  void create();
  void pass(const std::vector<CardLinks::Transfer>& transfers) const;
  void end(const Call<Communicator>& how) const;
};

void Clique::create() {
  std::vector<Ordinal> ordinals;
  for (const Rank& rank : ranks) ordinals.push_back(rank.ordinal);
  std::vector<Communicator> made(ranks.size());
  nccl.run(all, nccl.ncclCommInitAll, made.data(), static_cast<int>(made.size()),
           static_cast<const Ordinal*>(ordinals.data()));
  for (size_t i = 0; i < ranks.size(); ++i) ranks[i].communicator = made[i];
  if (left_behind) end(nccl.ncclCommAbort);
}

// In a group nothing waits for anything else, but what passes between the same two cards keeps its order.
void Clique::pass(const std::vector<CardLinks::Transfer>& transfers) const {
  nccl.run(all, nccl.ncclGroupStart);
  for (const CardLinks::Transfer& transfer : transfers) {
    const Rank &from = ranks[transfer.from], &to = ranks[transfer.to];
    nccl.run(from.bus_id, nccl.ncclSend, static_cast<const void*>(transfer.source), transfer.count, nccl_float32,
             static_cast<int>(transfer.to), from.communicator, from.stream);
    nccl.run(to.bus_id, nccl.ncclRecv, static_cast<void*>(transfer.target), transfer.count, nccl_float32,
             static_cast<int>(transfer.from), to.communicator, to.stream);
  }
  nccl.run(all, nccl.ncclGroupEnd);
}

// All ranks, whatever NCCL says of one: the last call gives back what they share.
void Clique::end(const Call<Communicator>& how) const {
  for (const Rank& rank : ranks) how.function(rank.communicator);
}

class NcclLinks final : public CardLinks {
 public:
  NcclLinks(std::shared_ptr<Clique> clique, const std::vector<OpenCard*>& cards, const Cancel& cancel);
  NcclLinks(const NcclLinks&) = delete;
  NcclLinks& operator=(const NcclLinks&) = delete;
  ~NcclLinks() override;

  void start(std::span<const Transfer> transfers) override;
  void wait() override;
  void give_up() override { failed_ = true; }

  // NCCL joins two cards, and takes memory for it, when something first passes between them: now. What passes wrongly
  // is found here, not in a unit.
  void join_all();

 private:
  void call(const char* name, std::function<void(Clique&)> body, const Cancel& cancel = {});
  bool all_passed() const;

  const std::shared_ptr<Clique> clique_;
  std::vector<Device*> devices_;
  std::chrono::milliseconds timeout_{0};
  bool failed_ = false;
};

NcclLinks::NcclLinks(std::shared_ptr<Clique> clique, const std::vector<OpenCard*>& cards, const Cancel& cancel)
    : clique_(std::move(clique)) {
  const OpenCard& first = *cards.front();
  clique_->set_context = [driver = first.driver, context = first.device.context(), bus_id = first.device.bus_id()] {
    driver.run(bus_id, driver.cuCtxSetCurrent, context);
  };
  for (OpenCard* card : cards) {
    Device& device = card->device;
    devices_.push_back(&device);
    timeout_ = std::max(timeout_, device.timeout());
    clique_->ranks.push_back({device.bus_id(), device.ordinal(), device.side_stream()});
    clique_->all += (clique_->all.empty() ? "" : ", ") + device.bus_id();
  }
  call("ncclCommInitAll", &Clique::create, cancel);
}

NcclLinks::~NcclLinks() {
  try {
    if (failed_) {
      left_threads_behind = true;
      std::thread([clique = clique_] { clique->end(clique->nccl.ncclCommAbort); }).detach();
    } else {
      call("ncclCommDestroy", [](Clique& clique) { clique.end(clique.nccl.ncclCommDestroy); });
    }
  } catch (const std::exception&) {
    // Nobody needs them any more, and nobody waits for them.
  }
}

// Throws what `body` throws.
void NcclLinks::call(const char* name, std::function<void(Clique&)> body, const Cancel& cancel) {
  std::packaged_task<void()> task([clique = clique_, body = std::move(body)] {
    clique->set_context();
    body(*clique);
  });
  std::future<void> done = task.get_future();
  std::thread(std::move(task)).detach();
  const auto begin = std::chrono::steady_clock::now();
  while (done.wait_for(std::chrono::milliseconds(50)) != std::future_status::ready) {
    const bool stop = cancel && cancel();
    if (!stop && std::chrono::steady_clock::now() - begin <= timeout_) continue;
    clique_->left_behind = left_threads_behind = true;
    if (stop) throw Cancelled();
    throw CudaError(clique_->all + ": " + name + " has not returned for " + seconds_text(timeout_));
  }
  done.get();
}

// A card sends each other one a number of its own. Where this fails, the few bytes are left on the cards: who frees
// memory waits for what is on its way.
void NcclLinks::join_all() {
  const size_t count = devices_.size();
  std::vector<float*> memory;  // of each card: what it sends to which, and what it gets from which
  const auto number = [count](size_t from, size_t to) { return static_cast<float>(1 + from * count + to); };
  for (size_t card = 0; card < count; ++card) {
    std::vector<float> values(2 * count);
    for (size_t to = 0; to < count; ++to) values[to] = number(card, to);
    values[count + card] = number(card, card);
    memory.push_back(static_cast<float*>(devices_[card]->allocate(values.size() * sizeof(float))));
    devices_[card]->write(memory[card], values.data(), values.size() * sizeof(float));
  }
  std::vector<Transfer> transfers;
  for (size_t from = 0; from < count; ++from) {
    for (size_t to = 0; to < count; ++to) {
      if (from != to) transfers.push_back({from, to, memory[from] + to, memory[to] + count + from, 1});
    }
  }
  start(transfers);
  wait();
  for (size_t card = 0; card < count; ++card) {
    std::vector<float> got(count);
    devices_[card]->read(got.data(), memory[card] + count, count * sizeof(float));
    devices_[card]->free(memory[card]);
    for (size_t from = 0; from < count; ++from) {
      if (got[from] == number(from, card)) continue;
      failed_ = true;
      throw CudaError(clique_->ranks[card].bus_id + ": ncclRecv gave something else than " +
                      clique_->ranks[from].bus_id + " had sent");
    }
  }
}

void NcclLinks::start(std::span<const Transfer> transfers) {
  failed_ = true;  // until the end of wait()
  for (Device* device : devices_) device->synchronise();
  call("ncclGroupEnd", [given = std::vector(transfers.begin(), transfers.end())](Clique& all) { all.pass(given); });
  for (Device* device : devices_) device->mark_side_stream();
}

void NcclLinks::wait() {
  const auto begin = std::chrono::steady_clock::now();
  while (!all_passed()) {
    const auto waited = std::chrono::steady_clock::now() - begin;
    if (waited > timeout_) {
      throw CudaError(clique_->all + ": ncclSend and ncclRecv have not ended for " + seconds_text(timeout_));
    }
    sleep_a_part_of(waited);
  }
  failed_ = false;
}

bool NcclLinks::all_passed() const {
  bool all = true;
  for (size_t i = 0; i < devices_.size(); ++i) {
    const Rank& rank = clique_->ranks[i];
    Result state = result::success;
    clique_->nccl.run(rank.bus_id, clique_->nccl.ncclCommGetAsyncError, rank.communicator, &state);
    if (state != result::success) throw clique_->nccl.error(rank.bus_id, "ncclCommGetAsyncError", state);
    all = devices_[i]->side_stream_passed() && all;
  }
  return all;
}

}  // namespace
}  // namespace cuda

std::unique_ptr<CardLinks> make_nccl_links(std::span<Ops* const> cards, const Cancel& cancel) {
  std::vector<cuda::OpenCard*> open;
  for (Ops* ops : cards) {
    auto* const card = dynamic_cast<cuda::CardOps*>(ops);
    if (card == nullptr) return nullptr;
    open.push_back(&card->card());
  }
  std::shared_ptr<cuda::Clique> clique;
  try {
    clique = std::make_shared<cuda::Clique>();
  } catch (const CudaError&) {
    return nullptr;
  }
  auto links = std::make_unique<cuda::NcclLinks>(std::move(clique), open, cancel);
  links->join_all();
  return links;
}

}  // namespace kernels
