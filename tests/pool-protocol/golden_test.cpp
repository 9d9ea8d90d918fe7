#include "golden.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "protocol/documents.h"
#include "protocol/http_signature.h"
#include "protocol/json.h"
#include "protocol/messages.h"
#include "samples.h"

namespace protocol {
namespace {

using nlohmann::json;

std::string read(const std::string& name) {
  std::ifstream file(std::filesystem::path(GOLDEN_FOLDER) / name, std::ios::binary);
  EXPECT_TRUE(file) << name;
  std::ostringstream content;
  content << file.rdbuf();
  return content.str();
}

TEST(Golden, TheLibraryStillMakesEveryFile) {
  const auto files = samples::golden_files();
  for (const auto& [name, content] : files) EXPECT_EQ(read(name), content) << name;
  for (const auto& entry : std::filesystem::directory_iterator(GOLDEN_FOLDER))
    EXPECT_TRUE(files.contains(entry.path().filename())) << entry.path() << " is made by nobody";
}

TEST(Golden, TheRequestVerifies) {
  const json file = json::parse(read("request.json"));
  const std::string method = file["method"], host = file["host"], path = file["path"], body = file["body"];
  const RequestParts parts{method, host, path, {reinterpret_cast<const uint8_t*>(body.data()), body.size()}};
  const SignatureHeaders headers{file["content_digest"], file["signature_input"], file["signature"]};
  EXPECT_EQ(verify_request(parts, headers, samples::pool_id(), file["now"]).base, file["base"].get<std::string>());
}

TEST(Golden, DocumentsVerify) {
  const PublicKey key = samples::test_key(samples::pool_seed).public_key();
  for (const std::string name : {"receipt", "settlement", "record", "job", "gradient_job"}) {
    SignedDocument document{read(name + ".json"), {}};
    const std::string signature = read(name + ".sig");
    ASSERT_EQ(signature.size(), 64u);
    std::copy(signature.begin(), signature.end(), document.signature.begin());
    EXPECT_TRUE(verify_document(document, key)) << name;
  }
}

TEST(Golden, MessagesParse) {
  const auto message = [](const std::string& name) { return parse_object(read("message." + name + ".json")); };
  EXPECT_NO_THROW(pool_info_from_json(message("pool")));
  EXPECT_NO_THROW(enrolment_from_json(message("enrolment")));
  EXPECT_NO_THROW(lease_request_from_json(message("lease_request")));
  EXPECT_TRUE(lease_answer_from_json(message("lease")).lease);
  EXPECT_TRUE(lease_answer_from_json(message("no_lease")).none);
  EXPECT_NO_THROW(unit_from_json(message("evaluate_unit")));
  EXPECT_NO_THROW(renewal_from_json(message("renewal")));
  EXPECT_NO_THROW(renewal_answer_from_json(message("renewal_answer")));
  EXPECT_NO_THROW(release_from_json(message("release")));
  EXPECT_NO_THROW(submission_from_json(message("submission")));
  EXPECT_TRUE(submission_from_json(message("diverged")).diverged);
  EXPECT_NO_THROW(signed_document_from_json(message("receipt"), "receipt"));
  EXPECT_EQ(settlements_from_json(message("settlements")).size(), 1u);
  EXPECT_EQ(error_from_body(message("error").dump()).code, 1104);
}

}  // namespace
}  // namespace protocol
