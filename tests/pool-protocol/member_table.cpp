#include "member_table.h"

#include <gtest/gtest.h>

#include <set>

#include "protocol/error.h"

using nlohmann::json;

namespace {

const std::vector<json> not_text = {1, true, json::array(), json::object(), "a\u0001b"};

std::vector<json> with(std::vector<json> values, const std::vector<json>& more) {
  values.insert(values.end(), more.begin(), more.end());
  return values;
}

const std::vector<json>& refused_values(Kind kind) {
  static const std::string hex32(32, 'a'), hex64(64, 'a');
  static const std::map<Kind, std::vector<json>> values = {
      {Kind::object, {1, "x", true, json::array()}},
      {Kind::array, {1, "x", true, json::object()}},
      {Kind::text, not_text},
      {Kind::name, with(not_text, {"", "a b", "-a", "a/b", std::string(65, 'a')})},
      {Kind::job_name, with(not_text, {"", "A", "a.b", "-a", std::string(33, 'a')})},
      {Kind::unit_name,
       with(not_text, {"", "kjv.12.1", "kjv.12.x1", "kjv.012.t1", "kjv.12.t01", "kjv.12.t", "KJV.12.t1", "kjv.12.t1 ",
                       "kjv.12", "kjv", ".12.t1", "kjv..t1", "kjv.12.t65536", "kjv.1000000001.t1", "kjv.-1.t1",
                       "kjv.12.t99999999999999999999"})},
      {Kind::capability, with(not_text, {"", "a b", "ä", std::string(65, 'a')})},
      {Kind::hex16, with(not_text, {"", hex32 + "a", hex32.substr(1), std::string(32, 'A'), std::string(32, 'g')})},
      {Kind::digest, with(not_text, {"", hex64 + "a", hex64.substr(1), std::string(64, 'A'), std::string(64, 'g')})},
      {Kind::signature, with(not_text, {"", "QUJD", std::string(88, 'A'), std::string(88, '=')})},
      {Kind::count, {-1, 1.0, 0.5, "1", true, json::array(), json::object(), UINT64_MAX, 1e30}},
      {Kind::amount, with(not_text, {"", "-1", "+1", "01", "1.0", " 1", "1 ", "0x1", "1e3", "18446744073709551616"})},
      {Kind::number, {"1", true, json::array(), json::object()}},
      {Kind::fp32, {"1", true, json::array(), json::object(), 0.1, 1e39, -1e300, 16777217}},
      {Kind::boolean, {0, 1, "true", json::array(), json::object()}},
  };
  return values.at(kind);
}

// "/unit/shards/1/tokens" as messages write it: "unit.shards[1].tokens".
std::string path_of(const std::string& pointer) {
  std::string path;
  for (size_t begin = 1; begin < pointer.size();) {
    const size_t end = std::min(pointer.find('/', begin), pointer.size());
    const std::string part = pointer.substr(begin, end - begin);
    if (std::isdigit(part[0]))
      path += "[" + part + "]";
    else
      path += path.empty() ? part : "." + part;
    begin = end + 1;
  }
  return path;
}

void expect_refused_at(const json& message, const std::string& path, const std::string& change,
                       const std::function<void(const json&)>& parse) {
  try {
    parse(message);
    ADD_FAILURE() << path << " " << change << ": not refused";
  } catch (const protocol::Error& error) {
    EXPECT_EQ(error.code, protocol::ErrorCode::bad_member) << path << " " << change << ": " << error.what();
    EXPECT_TRUE(std::string(error.what()).starts_with(path)) << path << " " << change << ": " << error.what();
    EXPECT_LT(std::string(error.what()).size(), 300u);
  }
}

// Pointers of every member; of arrays, the first entry stands for all.
void collect(const json& value, const std::string& pointer, const std::string& opaque, std::set<std::string>& found) {
  if (!pointer.empty()) found.insert(pointer);
  if (pointer == opaque && !opaque.empty()) return;
  if (value.is_object())
    for (const auto& [key, member] : value.items()) collect(member, pointer + "/" + key, opaque, found);
  else if (value.is_array() && !value.empty())
    collect(value[0], pointer + "/0", opaque, found);
}

}  // namespace

void check_members(const json& valid, const std::vector<Member>& table, const std::function<void(const json&)>& parse,
                   const std::string& opaque) {
  ASSERT_NO_THROW(parse(valid));
  std::set<std::string> untested;
  collect(valid, "", opaque, untested);
  for (const Member& member : table) {
    untested.erase(member.pointer);
    const json::json_pointer pointer(member.pointer);
    ASSERT_TRUE(valid.contains(pointer)) << member.pointer;
    const std::string path = path_of(member.pointer);
    json changed = valid;
    for (const json& value : with(refused_values(member.kind), member.also_refused)) {
      changed[pointer] = value;
      expect_refused_at(changed, path, "= " + value.dump().substr(0, 100), parse);
    }
    changed[pointer] = nullptr;
    if (member.null == Null::allowed)
      EXPECT_NO_THROW(parse(changed)) << path;
    else if (member.null == Null::refused)
      expect_refused_at(changed, path, "= null", parse);
    if (changed[pointer.parent_pointer()].is_object() && member.null != Null::allowed) {
      changed[pointer.parent_pointer()].erase(pointer.back());
      expect_refused_at(changed, path + ": is missing", "removed", parse);
    }
  }
  for (const std::string& pointer : untested) ADD_FAILURE() << "the table lacks " << pointer;
  json more = valid;
  more["a member of a later version"] = {1, 2, 3};
  EXPECT_NO_THROW(parse(more)) << "unknown members are ignored";
}
