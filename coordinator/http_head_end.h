// Where a header block ends, for asio::async_read_until().
#pragma once

#include <boost/asio/read_until.hpp>
#include <iterator>
#include <utility>

namespace pool {

// CRLF CRLF, or at once a line feed without its carriage return, which flaw_of_head() refuses.
struct HeadEnd {
  template <class Iterator>
  std::pair<Iterator, bool> operator()(Iterator begin, Iterator end) const {
    Iterator line = begin;
    char previous = 0;
    for (Iterator i = begin; i != end; ++i) {
      if (*i == '\n') {
        if (previous != '\r' || i - line == 1) return {std::next(i), true};
        line = std::next(i);
      }
      previous = *i;
    }
    return {line, false};  // where to look on when there is more
  }
};

}  // namespace pool

template <>
struct boost::asio::is_match_condition<pool::HeadEnd> : std::true_type {};
