// Who a connection is counted as.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <string>

namespace pool {

// The IPv4 address, or the /64 network of an IPv6 one, which its owner can vary at will.
std::string address_of(const boost::asio::ip::tcp::endpoint& peer);

}  // namespace pool
