// Numeric profiles: which bits a unit's computation gives (docs/numerics.md).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kernels {

enum class Profile {
  exact_fp32,
  exact_int8,      // the linear layers in int8
  exact_int8_head  // and the head
};

// All that this engine computes.
const std::vector<Profile>& profiles();

// With the revision, as it stands in a unit: "exact-int8/1".
std::string name_of(Profile profile);

// The profile of a name with its revision, or without: its newest.
std::optional<Profile> profile_named(std::string_view name);

// For messages: "exact-fp32, exact-int8, …".
std::string profile_names();

}  // namespace kernels
