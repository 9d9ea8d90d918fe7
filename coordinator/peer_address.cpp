#include "peer_address.h"

#include <algorithm>

namespace pool {

namespace asio = boost::asio;

std::string address_of(const asio::ip::tcp::endpoint& peer) {
  const asio::ip::address address = peer.address();
  if (!address.is_v6()) return address.to_string();
  if (address.to_v6().is_v4_mapped())
    return asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6()).to_string();
  auto bytes = address.to_v6().to_bytes();
  std::fill(bytes.begin() + 8, bytes.end(), 0);
  return asio::ip::address_v6(bytes).to_string() + "/64";
}

}  // namespace pool
