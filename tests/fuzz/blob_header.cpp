// Any bytes as a blob of every kind and codec, with the count that it claims.
#include <cstdlib>
#include <cstring>

#include "protocol/blob.h"
#include "protocol/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  uint64_t count = 0;
  if (size >= 24) std::memcpy(&count, data + 16, sizeof count);
  for (const auto kind : {protocol::BlobKind::result, protocol::BlobKind::update, protocol::BlobKind::losses})
    for (const auto codec : protocol::all_codecs) try {
        const auto header = protocol::parse_blob_header({data, size}, size, kind, codec, count);
        if (header.payload_bytes != size - protocol::blob_header_bytes) std::abort();
      } catch (const protocol::Error&) {
      } catch (const std::invalid_argument&) {  // a count beyond any blob
      }
  return 0;
}
