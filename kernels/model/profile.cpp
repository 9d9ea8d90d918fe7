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
      break;
  }
  return "exact-int8-head";
}

}  // namespace

const std::vector<Profile>& profiles() {
  static const std::vector<Profile> all = {Profile::exact_fp32, Profile::exact_int8, Profile::exact_int8_head};
  return all;
}

std::string name_of(Profile profile) { return std::string(family_of(profile)) + std::string(revision); }

std::optional<Profile> profile_named(std::string_view name) {
  for (const Profile profile : profiles()) {
    if (name == family_of(profile) || name == name_of(profile)) return profile;
  }
  return std::nullopt;
}

std::string profile_names() {
  std::string names;
  for (const Profile profile : profiles()) names += (names.empty() ? "" : ", ") + std::string(family_of(profile));
  return names;
}

}  // namespace kernels
