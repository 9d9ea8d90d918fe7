// Who sends which piece of which lane to whom, where cards add the lanes that they hold. The sum is cut into pieces,
// one for each card in each step; that card owns it: all others that hold a lane send it theirs, and it adds them. Only
// numbers, which lane_exchange.h acts on.
#pragma once

#include <cstddef>
#include <vector>

namespace agent {

class ExchangeSchedule {
 public:
  // count: floats of a lane, on at least one card. holders: of each lane, the card that has it; a card has at most one.
  // host_sums: arrays that the host has, whose pieces are added as well. half: floats of each half of a card's buffer,
  // from half_for().
  ExchangeSchedule(size_t count, size_t cards, std::vector<size_t> holders, size_t host_sums, size_t half);

  // For lanes and the host's sums together: so much that a step fills it, at most what is read from a card at once.
  static size_t half_for(size_t count, size_t cards, size_t arrays);

  size_t steps() const;

  struct Piece {
    size_t first = 0, count = 0;  // elements of the sum; the first is a multiple of kernels::codec_block
  };
  // Nothing where the sum ends before.
  Piece piece(size_t step, size_t owner) const;

  // What the cards pass to each other in a step, all at once.
  struct Transfer {
    size_t lane = 0;  // place in holders
    size_t owner = 0;
  };
  std::vector<Transfer> transfers(size_t step) const;

  // Where in the owner's buffer the piece of an array goes that it has not itself. Steps use the halves in turn, so one
  // may be on its way while the one before is added. array: a lane's place in holders, or of a sum that the host has
  // the number plus as many as there are lanes.
  size_t place(size_t step, size_t owner, size_t array) const;

 private:
  const size_t count_, cards_;
  const std::vector<size_t> holders_;
  const size_t half_;
  size_t piece_;  // elements of each but the last
};

}  // namespace agent
