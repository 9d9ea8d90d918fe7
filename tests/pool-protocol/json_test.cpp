#include "protocol/json.h"

#include <gtest/gtest.h>

#include "refusal.h"

namespace protocol {
namespace {

using nlohmann::json;

std::string nested(int levels) {  // objects: {"a":{"a":…1…}}
  std::string text = "1";
  for (int i = 0; i < levels; ++i) text = "{\"a\":" + text + "}";
  return text;
}

TEST(Json, BadTextIsRefused) {
  const std::string bad[] = {
      "", " ", "{", "}", "{}x", "{} {}", "{\"a\":1,}", "{'a':1}", "{a:1}", "{\"a\":01}", "{\"a\":+1}", "{\"a\":.5}",
      "{\"a\":1.}", "{\"a\":NaN}", "{\"a\":Infinity}", "{\"a\":0x10}", "// c\n{}", "{\"a\":\"\t\"}", "{\"a\":\"\\x\"}",
      // Numbers beyond binary64, lone surrogates, NUL, what is not UTF-8 (bare continuation, overlong, surrogate,
      // beyond U+10FFFF, cut).
      "{\"a\":1e400}", "{\"a\":1" + std::string(400, '0') + "}", "{\"a\":-1e400}", R"({"a":"\ud800"})",
      R"({"a":"\udc00"})", R"({"a":"\ud800\u0041"})", std::string("{}\0", 3), std::string("{}\0{}", 5),
      std::string("{\"a\":\"\0\"}", 9), "{\"a\":\"\x80\"}", "{\"a\":\"\xc0\x80\"}", "{\"a\":\"\xed\xa0\x80\"}",
      "{\"a\":\"\xf5\x80\x80\x80\"}", "{\"a\":\"\xe2\x82\"}", "\xff{}"};
  for (const std::string& text : bad)
    expect_refusal([&] { parse_object(text); }, ErrorCode::bad_json, "not usable JSON", text);
}

TEST(Json, TopLevelIsAnObject) {
  for (const std::string text : {"[]", "1", "\"a\"", "null", "true"})
    expect_refusal([&] { parse_object(text); }, ErrorCode::bad_json, "object", text);
}

TEST(Json, DuplicateKeysAreRefused) {
  for (const std::string text : {R"({"a":1,"a":1})", R"({"a":1,"\u0061":2})", R"({"b":{"a":1,"c":[],"a":2}})",
                                 R"({"b":[{"a":{}},{"a":1,"a":1}]})", R"({"":1,"":2})"})
    expect_refusal([&] { parse_object(text); }, ErrorCode::bad_json, "twice", text);
  EXPECT_NO_THROW(parse_object(R"({"a":{"a":1},"b":{"a":[{"a":1},{"a":2}]}})"));
}

TEST(Json, DepthIsBounded) {
  EXPECT_NO_THROW(parse_object(nested(16)));
  expect_refusal([] { parse_object(nested(17)); }, ErrorCode::bad_json, "levels");
  EXPECT_NO_THROW(parse_object("{\"a\":" + std::string(15, '[') + std::string(15, ']') + "}"));
  expect_refusal([] { parse_object("{\"a\":" + std::string(500'000, '[')); }, ErrorCode::bad_json, "levels");
}

TEST(Json, SizeIsBounded) {
  const std::string at_bound = "{\"a\":\"" + std::string(max_json_bytes - 8, 'x') + "\"}";
  EXPECT_NO_THROW(parse_object(at_bound));
  expect_refusal([&] { parse_object(at_bound + " "); }, ErrorCode::too_large, "1048577");
  EXPECT_NO_THROW(parse_object("{}", 2));
  expect_refusal([] { parse_object("{ }", 2); }, ErrorCode::too_large, "3 bytes");
}

TEST(Json, MessagesOfRefusalsArePrintable) {
  try {
    parse_object("{\"\x1b[31m\xff\xfe\":1");
    FAIL();
  } catch (const Error& error) {
    EXPECT_NO_THROW(static_cast<void>(json(error.what()).dump()));  // UTF-8
    EXPECT_EQ(std::string(error.what()).find('\x1b'), std::string::npos);
  }
}

TEST(Json, Members) {
  const json object = parse_object(
      R"({"s":"täxt","u":7,"big":9223372036854775807,"max":18446744073709551615,"n":-1,"f":0.5,"fine":0.1,"e":1e30,
          "huge":1e39,"one":1.0,"b":true,"nul":"a\u0000b","escape":"a\u001bb","c1":"\u009b"})");
  EXPECT_EQ(string_member(object, "s"), "täxt");
  EXPECT_EQ(unsigned_member(object, "u"), 7u);
  EXPECT_EQ(unsigned_member(object, "big"), UINT64_MAX >> 1);
  EXPECT_EQ(unsigned_member(object, "max", UINT64_MAX), UINT64_MAX);
  EXPECT_EQ(number_member(object, "fine"), 0.1);
  EXPECT_EQ(float_member(object, "f"), 0.5f);
  EXPECT_EQ(float_member(object, "n"), -1.0f);
  EXPECT_TRUE(bool_member(object, "b"));
  EXPECT_EQ(member(object, "u"), 7);

  const auto refused = [&](const std::function<void()>& action, const std::string& part) {
    expect_refusal(action, ErrorCode::bad_member, part, part);
  };
  refused([&] { member(object, "x"); }, "x: is missing");
  refused([&] { member(object["u"], "x"); }, "must be an object");
  refused([&] { string_member(object, "u"); }, "u: must be a string, not 7");
  refused([&] { string_member(object, "s", 4); }, "s: is longer than 4 bytes");
  refused([&] { string_member(object, "nul"); }, "nul: contains a control character");
  refused([&] { string_member(object, "escape"); }, "escape: contains a control character");
  refused([&] { string_member(object, "c1"); }, "c1: contains a control character");
  refused([&] { unsigned_member(object, "max"); }, "max: must be an integer from 0 to 9223372036854775807");
  refused([&] { unsigned_member(object, "u", 6); }, "u: must be an integer from 0 to 6, not 7");
  for (const char* name : {"n", "f", "one", "s", "b", "e"})
    refused([&] { unsigned_member(object, name); }, std::string(name) + ": must be an integer");
  refused([&] { number_member(object, "s"); }, "s: must be a number");
  refused([&] { float_member(object, "fine"); }, "fine: must be a number that is exactly an fp32");
  refused([&] { float_member(object, "huge"); }, "huge: must be an fp32");
  refused([&] { bool_member(object, "u"); }, "u: must be true or false");
}

TEST(Json, Names) {
  for (const std::string name : {"a", "0", "kjv", "a-b-", "abcdefghijklmnopqrstuvwxyz012345"})
    EXPECT_TRUE(is_job_name(name)) << name;
  for (const std::string name : {"", "-a", "A", "a.b", "a_b", "a b", "ä", "abcdefghijklmnopqrstuvwxyz0123456"})
    EXPECT_FALSE(is_job_name(name)) << name;
  for (const std::string name : {"a", "Z9", "rig-1.farm_2"}) EXPECT_TRUE(is_name(name)) << name;
  EXPECT_TRUE(is_name(std::string(64, 'x')));
  EXPECT_FALSE(is_name(std::string(65, 'x')));
  for (const std::string name : {"", ".a", "_a", "-a", "a/b", "a b", "a\n", "ä"}) EXPECT_FALSE(is_name(name)) << name;
  EXPECT_FALSE(is_name(std::string_view("a\0b", 3)));
}

TEST(Json, Printable) {
  EXPECT_EQ(printable("plain “text”", 100), "plain “text”");
  EXPECT_EQ(printable("a\nb\x1b[0m\x7f\xc2\x9b", 100), "a b [0m   ");
  EXPECT_EQ(printable(std::string_view("a\0b", 3), 100), "a b");
  EXPECT_EQ(printable("\xff", 100), "\xef\xbf\xbd");
  EXPECT_EQ(printable("12345678", 8), "12345678");
  EXPECT_EQ(printable("123456789", 8), "12345…");
  EXPECT_EQ(printable("1234ääää", 8), "1234…");
  EXPECT_LE(printable(std::string(100, '\xff'), 50).size(), 50u);
}

}  // namespace
}  // namespace protocol
