// 128-bit unsigned integers, for products of 64-bit ones.
#pragma once

namespace protocol {

__extension__ typedef unsigned __int128 Wide;

}  // namespace protocol
