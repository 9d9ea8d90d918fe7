// Table-driven refusals: every member of a message, removed and replaced by what it must not be.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

// What a member must be; each kind has its list of values that are refused.
enum class Kind {
  object,
  array,
  text,
  name,
  job_name,
  unit_name,
  capability,
  hex16,
  digest,
  signature,
  count,
  amount,
  number,
  fp32,
  boolean
};

enum class Null { refused, allowed, not_tried };  // allowed: it may also be absent

struct Member {
  const char* pointer;  // "/unit/shards/1/tokens" (RFC 6901)
  Kind kind;
  std::vector<nlohmann::json> also_refused = {};  // out of range, for instance
  Null null = Null::refused;
};

// Parses after each change; every refusal must be Error(bad_member) whose message begins with the member's path
// ("unit.shards[1].tokens"). Members of `valid` that the table lacks are a failure, but for those under `opaque`.
void check_members(const nlohmann::json& valid, const std::vector<Member>& table,
                   const std::function<void(const nlohmann::json&)>& parse, const std::string& opaque = "");
