// Numeric profiles: which bits a unit's computation gives (docs/numerics.md).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kernels {

enum class Profile {
  exact_fp32,
  exact_int8,       // the linear layers in int8
  exact_int8_head,  // and the head
  fast              // 16-bit operands on tensor cores: other bits on another model of card
};

// Those with one right answer, which every engine computes: what units may have.
const std::vector<Profile>& profiles();

// And `fast`, which only an Ops with half_precision() computes, and no pool can check.
const std::vector<Profile>& profiles_of_cards();

// With the revision, as it stands in a unit: "exact-int8/1".
std::string name_of(Profile profile);

// The profile of a name with its revision, or without: its newest.
std::optional<Profile> profile_named(std::string_view name, const std::vector<Profile>& among = profiles());

// For messages: "exact-fp32, exact-int8, …".
std::string profile_names(const std::vector<Profile>& among = profiles());

}  // namespace kernels
