#include "kernels/profile.h"

namespace kernels {
namespace {

constexpr std::string_view revision = "/1";  // of every profile so far

std::string_view family_of(Profile profile) {
  switch (profile) {
    case Profile::exact_fp32:
      return "exact-fp32";
    case Profile::exact_int8:
      return "exact-int8";
    case Profile::exact_int8_head:
      return "exact-int8-head";
    case Profile::fast:
      break;
  }
  return "fast";
}

}  // namespace

const std::vector<Profile>& profiles() {
  static const std::vector<Profile> all = {Profile::exact_fp32, Profile::exact_int8, Profile::exact_int8_head};
  return all;
}

const std::vector<Profile>& profiles_of_cards() {
  static const std::vector<Profile> all = [] {
    std::vector<Profile> with_fast = profiles();
    with_fast.push_back(Profile::fast);
    return with_fast;
  }();
  return all;
}

std::string name_of(Profile profile) { return std::string(family_of(profile)) + std::string(revision); }

std::optional<Profile> profile_named(std::string_view name, const std::vector<Profile>& among) {
  for (const Profile profile : among) {
    if (name == family_of(profile) || name == name_of(profile)) return profile;
  }
  return std::nullopt;
}

std::string profile_names(const std::vector<Profile>& among) {
  std::string names;
  for (const Profile profile : among) names += (names.empty() ? "" : ", ") + std::string(family_of(profile));
  return names;
}

}  // namespace kernels
