#include "protocol/error.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>

namespace protocol {
namespace {

// The table of docs/protocol.md section 2.1 is the definition; the code must say the same.
TEST(Error, TableIsTheDocuments) {
  std::ifstream document(PROTOCOL_DOCUMENT);
  ASSERT_TRUE(document);
  int rows = 0;
  for (std::string line; std::getline(document, line);) {  // "| 1000 | bad_request | 400 | …"
    std::istringstream words(line);
    std::string bar, name;
    int code = 0, status = 0;
    if (!(words >> bar >> code >> bar >> name >> bar >> status) || code < 1000) continue;  // another table's row
    EXPECT_EQ(name_of(static_cast<ErrorCode>(code)), name);
    EXPECT_EQ(http_status_of(static_cast<ErrorCode>(code)), status);
    ++rows;
  }
  EXPECT_EQ(rows, 30);
  EXPECT_THROW(name_of(static_cast<ErrorCode>(1)), std::logic_error);
}

}  // namespace
}  // namespace protocol
