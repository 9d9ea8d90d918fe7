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
#include "cuda_driver/kept_failure.h"
#include "cuda_driver/nccl.h"
#include "kernels/card_links.h"

namespace kernels {
namespace cuda {
namespace {

struct Rank {
  std::string bus_id;
  Ordinal ordinal = 0;
  Context context = nullptr;
  Stream stream = nullptr;
  Communicator communicator = nullptr;
};

// What the threads that call NCCL share with whoever waits for them.
struct Clique : std::enable_shared_from_this<Clique> {
  const Nccl nccl;
  // Takes the context of a rank's card: in a thread without, NCCL makes one on the machine's first card.
  std::function<void(const Rank&)> set_context;
  std::vector<Rank> ranks;
  std::string all;                       // their bus ids
  std::atomic<bool> left_behind{false};  // nobody waits any more for what is called

  void create();
  void pass(const std::vector<CardLinks::Transfer>& transfers) const;
  void require_no_error() const;
  void destroy() const;
  void abort() const;
};

void Clique::create() {
  std::vector<Ordinal> ordinals;
  for (const Rank& rank : ranks) ordinals.push_back(rank.ordinal);
  std::vector<Communicator> made(ranks.size());
  nccl.run(all, nccl.ncclCommInitAll, made.data(), static_cast<int>(made.size()),
           static_cast<const Ordinal*>(ordinals.data()));
  for (size_t i = 0; i < ranks.size(); ++i) ranks[i].communicator = made[i];
  if (left_behind) abort();
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

void Clique::require_no_error() const {
  for (const Rank& rank : ranks) {
    Result state = result::success;
    nccl.run(rank.bus_id, nccl.ncclCommGetAsyncError, rank.communicator, &state);
    if (state != result::success) throw nccl.error(rank.bus_id, "ncclCommGetAsyncError", state);
  }
}

// All ranks, whatever NCCL says of one: the last call gives back what they share.
void Clique::destroy() const {
  KeptFailure failure;
  for (const Rank& rank : ranks)
    failure.attempt([&] { nccl.run(rank.bus_id, nccl.ncclCommDestroy, rank.communicator); });
  failure.rethrow();
}

// Likewise, each by a thread of its own that nobody waits for: what one card does ends only when the others' ranks are
// told as well, and older versions of NCCL wait for it; the call of a card that hangs never returns. What it says is no
// news: something has failed before, and that was thrown.
void Clique::abort() const {
  for (const Rank& rank : ranks) {
    std::thread([clique = shared_from_this(), &rank] {
      try {
        clique->set_context(rank);
      } catch (const CudaError&) {
        // It is told all the same.
      }
      clique->nccl.ncclCommAbort.function(rank.communicator);
    }).detach();
  }
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
  void require_no_error();
  bool all_passed() const;

  const std::shared_ptr<Clique> clique_;
  std::vector<Device*> devices_;
  std::chrono::milliseconds timeout_{0};
  bool failed_ = false;
};

NcclLinks::NcclLinks(std::shared_ptr<Clique> clique, const std::vector<OpenCard*>& cards, const Cancel& cancel)
    : clique_(std::move(clique)) {
  clique_->set_context = [driver = cards.front()->driver](const Rank& rank) {
    driver.run(rank.bus_id, driver.cuCtxSetCurrent, rank.context);
  };
  for (OpenCard* card : cards) {
    Device& device = card->device;
    devices_.push_back(&device);
    timeout_ = std::max(timeout_, device.timeout());
    clique_->ranks.push_back({device.bus_id(), device.ordinal(), device.context(), device.side_stream()});
    clique_->all += (clique_->all.empty() ? "" : ", ") + device.bus_id();
  }
  call("ncclCommInitAll", &Clique::create, cancel);
}

NcclLinks::~NcclLinks() {
  try {
    if (failed_) {
      left_threads_behind = true;
      clique_->abort();
    } else {
      call("ncclCommDestroy", &Clique::destroy);
    }
  } catch (const std::exception& error) {
    devices_.front()->give_back_failed(error.what());
  }
}

// Throws what `body` throws.
void NcclLinks::call(const char* name, std::function<void(Clique&)> body, const Cancel& cancel) {
  std::packaged_task<void()> task([clique = clique_, body = std::move(body)] {
    clique->set_context(clique->ranks.front());
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

// NCCL is asked now and then, since each time takes a thread, and at the end.
void NcclLinks::wait() {
  const auto begin = std::chrono::steady_clock::now();
  auto asked = begin;
  while (!all_passed()) {
    const auto now = std::chrono::steady_clock::now();
    if (now - begin > timeout_) {
      throw CudaError(clique_->all + ": ncclSend and ncclRecv have not ended for " + seconds_text(timeout_));
    }
    if (now - asked > std::chrono::milliseconds(50)) {
      require_no_error();
      asked = now;
    }
    sleep_a_part_of(now - begin);
  }
  require_no_error();
  failed_ = false;
}

void NcclLinks::require_no_error() { call("ncclCommGetAsyncError", &Clique::require_no_error); }

bool NcclLinks::all_passed() const {
  bool all = true;
  for (Device* device : devices_) all = device->side_stream_passed() && all;
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
