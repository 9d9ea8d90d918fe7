// Cards that pass arrays to each other without the host: by NCCL, which is opened at run time where it is present.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "kernels/ops.h"
#include "kernels/training.h"

namespace kernels {

// "2.21.5". Throws CudaError where NCCL is missing, too old, or does not answer.
std::string nccl_version();

// Some cards that are linked. One thread at a time, and none that uses one of the cards meanwhile; only the end of
// links does not disturb who does. Every function throws CudaError, which names call and cards; the links are of no use
// then, but the cards are, unless they hang themselves. The cards outlive the links.
class CardLinks {
 public:
  struct Transfer {
    size_t from = 0, to = 0;        // cards, as numbered when they were linked
    const float* source = nullptr;  // in the memory of the one,
    float* target = nullptr;        // and of the other
    size_t count = 0;
  };

  // Gives the links' memory on the cards back. Where something has failed this is left to a thread of its own, and does
  // not wait for the cards.
  virtual ~CardLinks() = default;

  // All of them at once, when everything that was queued on the cards before has ended. Neither source nor target may
  // be touched until wait() has returned, which follows each start().
  virtual void start(std::span<const Transfer> transfers) = 0;
  virtual void wait() = 0;

  // To be called where a card has failed: as if a call here had.
  virtual void give_up() = 0;
};

// Of at least one card, each from make_cuda_ops(); null where one is not, or where there is no NCCL. It takes seconds,
// and memory of each card. A call of NCCL, and a transfer, may take as long as the cards may for a launch
// (make_cuda_ops()). Throws Cancelled, too: cancel is asked 20 times a second.
using MakeCardLinks = std::function<std::unique_ptr<CardLinks>(std::span<Ops* const> cards, const Cancel& cancel)>;
std::unique_ptr<CardLinks> make_nccl_links(std::span<Ops* const> cards, const Cancel& cancel = {});

}  // namespace kernels
