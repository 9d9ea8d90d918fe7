// Asserts that an expression throws protocol::Error with a code and a part of its message.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "protocol/error.h"

inline void expect_refusal(const std::function<void()>& action, protocol::ErrorCode code, const std::string& part,
                           const std::string& context = "") {
  try {
    action();
    ADD_FAILURE() << "not refused: " << context;
  } catch (const protocol::Error& error) {
    EXPECT_EQ(static_cast<int>(error.code), static_cast<int>(code)) << context << ": " << error.what();
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos)
        << context << ": \"" << error.what() << "\" lacks \"" << part << "\"";
  }
}
