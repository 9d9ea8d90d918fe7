#include "lane_sum.h"

#include <algorithm>
#include <atomic>
#include <deque>
#include <semaphore>
#include <stdexcept>
#include <thread>

#include "kernels/cuda_cards.h"

namespace agent {
namespace {

void note(HeldLane& lane, const kernels::CudaError& error) {
  lane.failure = error.what();
  lane.out_of_memory = dynamic_cast<const kernels::CudaOutOfMemory*>(&error) != nullptr;
}

// Hands a lane's pieces from the thread that reads them to the one that adds them.
class LaneReader {
 public:
  explicit LaneReader(HeldLane& lane) : lane_(lane), thread_([this] { read(); }) {}
  LaneReader(const LaneReader&) = delete;
  LaneReader& operator=(const LaneReader&) = delete;
  ~LaneReader() {
    abandoned_ = true;
    added_.release();
  }

  uint64_t lane() const { return lane_.lane; }
  // False where the card failed.
  bool wait_for_piece() {
    ready_.acquire();
    return lane_.failure.empty() && !error_;
  }
  std::span<const float> piece() const { return piece_; }
  void piece_was_added() { added_.release(); }
  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  struct Abandoned {};

  void read() {
    try {
      lane_.worker->read_result([&](std::span<const float> piece) {
        added_.acquire();
        if (abandoned_) throw Abandoned();
        piece_ = piece;
        ready_.release();
      });
    } catch (const Abandoned&) {
    } catch (const kernels::CudaError& error) {
      added_.acquire();  // until then the other thread asks about the piece before
      note(lane_, error);
      ready_.release();
    } catch (...) {
      added_.acquire();
      error_ = std::current_exception();
      ready_.release();
    }
  }

  HeldLane& lane_;
  std::span<const float> piece_;
  std::exception_ptr error_;
  std::atomic<bool> abandoned_ = false;
  std::counting_semaphore<2> ready_{0}, added_{1};
  std::jthread thread_;
};

// Of a unit of one lane.
bool encode_on_card(HeldLane& lane, UnitBlob& sum, const kernels::Cancel& cancel) {
  try {
    sum.put_all(lane.worker->result(), lane.worker->ops(), cancel);
  } catch (const kernels::CudaError& error) {
    note(lane, error);
    return false;
  }
  return true;
}

}  // namespace

bool sum_held_lanes(const kernels::LaneTree& tree, std::span<HeldLane> lanes, UnitBlob& sum,
                    const kernels::Cancel& cancel) {
  if (tree.terms().size() == 1) return encode_on_card(lanes.front(), sum, cancel);
  std::deque<LaneReader> readers;
  for (HeldLane& lane : lanes) readers.emplace_back(lane);
  const auto piece_of = [&](size_t lane) { return std::ranges::find(readers, lane, &LaneReader::lane)->piece(); };
  std::vector<float> added(std::min(piece_values, sum.count()));
  for (size_t first = 0; first < sum.count(); first += piece_values) {
    if (cancel()) throw kernels::Cancelled();
    bool all = true;
    for (LaneReader& reader : readers) all = reader.wait_for_piece() && all;
    for (const LaneReader& reader : readers) reader.rethrow();
    if (!all) return false;
    const std::span<float> piece = std::span(added).first(std::min(piece_values, sum.count() - first));
    tree.part(first, piece, piece_of);
    for (LaneReader& reader : readers) reader.piece_was_added();
    sum.put(first, piece, tree.ops());
  }
  return true;
}

}  // namespace agent
