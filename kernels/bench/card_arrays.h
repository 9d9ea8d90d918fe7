// What the operations that card_bench times have in common: their arguments, and arrays of random values.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/ops.h"

namespace kernels::bench {

// What an operation reads and writes, in the memory of its Ops; filled with random values, so that none is special.
class Arrays {
 public:
  explicit Arrays(Ops& ops) : ops_(ops) {}
  Arrays(const Arrays&) = delete;
  Arrays& operator=(const Arrays&) = delete;
  ~Arrays() {
    for (void* memory : taken_) ops_.free(memory);
  }

  float* floats(size_t count) {
    std::uniform_real_distribution<float> uniform(0.1f, 1);  // what is divided by, or a square root is taken of, too
    return take<float>(count, [&] { return random_() % 2 == 0 ? uniform(random_) : -uniform(random_); });
  }
  // As Ops::half_precision() says. Throws std::invalid_argument where there are none.
  uint16_t* halves(size_t count) {
    if (ops_.half_precision() == HalfPrecision::none) throw std::invalid_argument("the card does not compute fast");
    const float* const values = floats(count);
    taken_.push_back(ops_.allocate(count * sizeof(uint16_t)));
    auto* const made = static_cast<uint16_t*>(taken_.back());
    ops_.round_to_halves({.count = count, .x = values, .y = made});
    return made;
  }
  FloatsOrHalves floats_or_halves(size_t count, bool of_halves) {
    return of_halves ? FloatsOrHalves(halves(count)) : FloatsOrHalves(floats(count));
  }
  float* positive(size_t count) {
    std::uniform_real_distribution<float> uniform(0.1f, 1);
    return take<float>(count, [&] { return uniform(random_); });
  }
  int8_t* digits(size_t count) {
    return take<int8_t>(count, [&] { return static_cast<int8_t>(static_cast<int>(random_() % 255) - 127); });
  }
  uint16_t* below(size_t limit, size_t count) {
    return take<uint16_t>(count, [&] { return static_cast<uint16_t>(random_() % limit); });
  }
  // Tokens that are all different, where the vocabulary has so many and is no multiple of 7919.
  uint16_t* tokens(size_t vocabulary, size_t count) {
    return take<uint16_t>(
        count, [vocabulary, i = size_t{0}]() mutable { return static_cast<uint16_t>(i++ * 7919 % vocabulary); });
  }

 private:
  template <typename T, typename Next>
  T* take(size_t count, Next next) {
    // A prime number of values over and over: random enough. The host makes some rounds of them, which the
    // card copies until they are all there, twice as many each time.
    constexpr size_t period = 99'991, rounds = 16;
    std::vector<T> values(std::min(count, rounds * period));
    for (size_t i = 0; i < values.size(); ++i) values[i] = i < period ? next() : values[i - period];
    taken_.push_back(ops_.allocate(count * sizeof(T)));
    T* const all = static_cast<T*>(taken_.back());
    ops_.write(all, values.data(), values.size() * sizeof(T));
    for (size_t made = values.size(), more = 0; made < count; made += more) {
      more = std::min(made, count - made);
      ops_.copy(all + made, all, more * sizeof(T));
    }
    return all;
  }

  Ops& ops_;
  std::mt19937 random_{1};
  std::vector<void*> taken_;
};

// An operation by its name: how many sizes describe it, and what makes a call of it from them. A call uses ops and
// arrays, which are to outlive it.
using Sizes = std::vector<size_t>;
using Call = std::function<void()>;
struct Operation {
  size_t sizes;
  std::function<Call(Ops&, Arrays&, const Sizes&)> prepare;
};
using Operations = std::map<std::string, Operation>;

}  // namespace kernels::bench
