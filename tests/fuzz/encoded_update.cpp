// Any bytes as an update: refused with one of two exceptions, or every value is finite and the same however it is cut.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "kernels/codec.h"
#include "protocol/blob.h"
#include "protocol/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  uint64_t count = 0;
  if (size >= 24) std::memcpy(&count, data + 16, sizeof count);
  for (const auto codec : protocol::all_codecs) try {
      protocol::parse_blob_header({data, size}, size, protocol::BlobKind::update, codec, count);
      const std::span<const uint8_t> payload(data + protocol::blob_header_bytes, size - protocol::blob_header_bytes);
      std::vector<float> whole(count), part(std::min<uint64_t>(count, 128));
      kernels::decode(static_cast<kernels::Codec>(codec), payload, count, 0, whole);
      if (!std::ranges::all_of(whole, [](float x) { return std::isfinite(x); })) std::abort();
      for (size_t first = 0; first < count; first += 128) {
        const std::span<float> out(part.data(), std::min<size_t>(128, count - first));
        kernels::decode(static_cast<kernels::Codec>(codec), payload, count, first, out);
        if (!std::equal(out.begin(), out.end(), whole.begin() + static_cast<std::ptrdiff_t>(first))) std::abort();
      }
    } catch (const protocol::Error&) {
    } catch (const std::invalid_argument&) {
    }
  return 0;
}
