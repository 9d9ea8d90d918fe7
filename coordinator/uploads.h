// Results on their way in: uploads/<key>-<digest>, one file for each (rig, digest), taken in order.
#pragma once

#include <optional>

#include "core.h"
#include "files.h"

namespace pool {

// The bytes held afterwards. Throws Error(blob_offset) for a gap, Error(blob_too_large) beyond what the rig's leases
// allow.
uint64_t put_piece(Core& core, const RigIdentity& rig, const protocol::Digest& digest, uint64_t offset,
                   std::span<const uint8_t> piece);
// Takes a whole upload out of the rig's reach, so that nothing can be written to it any more; nothing unless exactly
// `bytes` are held. What is not used in the end goes back by return_upload().
std::optional<StagedFile> claim_upload(Core& core, const protocol::PublicKey& key, const protocol::BlobReference& blob);
void return_upload(Core& core, const protocol::PublicKey& key, StagedFile& file);

uint64_t held_bytes(const Core& core, const protocol::PublicKey& key, const protocol::Digest& digest);
void remove_upload(const Core& core, const protocol::PublicKey& key, const protocol::Digest& digest);
// Removes uploads that were left alone for an hour, of rigs whose every lease is over.
void remove_stale_uploads(Core& core);

}  // namespace pool
