#include "delivery.h"

#include <fcntl.h>

#include <algorithm>

#include "exit.h"
#include "files.h"

namespace agent {
namespace {

using protocol::ErrorCode;

void upload(PoolClient& client, uint64_t piece_bytes, const OutboxItem& item) {
  const protocol::BlobReference& blob = item.submission.result;
  const File in(item.blob(), O_RDONLY);
  std::vector<uint8_t> piece;
  int backwards = 0;
  for (uint64_t offset = 0; offset < blob.bytes;) {
    piece.resize(std::min(piece_bytes, blob.bytes - offset));
    in.read_at(offset, piece);
    const uint64_t held = client.put_piece(blob.digest, offset, piece);
    if (held <= offset && ++backwards > 3) {
      throw protocol::Error(ErrorCode::blob_offset, "the pool does not keep the pieces that it is sent");
    }
    offset = held;
  }
}

// What waited in the outbox may have arrived before, and only its receipt was lost: then the pool takes no piece any
// more, but gives the receipt again. So it is asked before anything is uploaded.
protocol::SignedDocument submit(PoolClient& client, uint64_t piece_bytes, const OutboxItem& item, bool waited) {
  bool upload_first = !waited && !item.submission.diverged;
  for (int uploads = 0;;) {
    if (upload_first) {
      upload(client, piece_bytes, item);
      ++uploads;
    }
    try {
      return client.submit(item.submission);
    } catch (const PoolError& error) {
      if (uploads == 2 || !(error.is(ErrorCode::blob_missing) || error.is(ErrorCode::blob_digest_mismatch))) throw;
      upload_first = true;
    }
  }
}

protocol::Receipt verified(const protocol::SignedDocument& document, const PoolIdentity& pool,
                           const protocol::PublicKey& rig, const protocol::Submission& submission) {
  auto refuse = [&](const std::string& why) {
    return Failure(Exit::refused, "the pool at " + pool.url + " gave a receipt for " + submission.unit + " that " +
                                      why + "; the result stays in the outbox, and this pool gets no more work");
  };
  if (!pool.signed_by_pool(document)) throw refuse("its key did not sign");
  const protocol::Receipt receipt = protocol::receipt_from_canonical(document.document);
  const protocol::Digest nothing = protocol::sha256(std::string_view());
  const bool same = receipt.pool_id == pool.pool_id && receipt.unit == submission.unit &&
                    receipt.attempt == submission.attempt && receipt.rig == rig &&
                    receipt.result == (submission.diverged ? nothing : submission.result.digest) &&
                    receipt.segments_root == (submission.diverged ? nothing : submission.segments_root);
  if (!same) throw refuse("is about another result");
  return receipt;
}

}  // namespace

Delivery deliver(PoolClient& client, const PoolIdentity& pool, const protocol::PublicKey& rig, uint64_t piece_bytes,
                 const OutboxItem& item, bool waited) {
  const protocol::SignedDocument document = submit(client, piece_bytes, item, waited);
  return {verified(document, pool, rig, item.submission), document};
}

bool is_final_for_item(const PoolError& error) {
  return error.is(ErrorCode::result_conflict) || error.is(ErrorCode::bad_result) ||
         error.is(ErrorCode::lease_unknown) || error.is(ErrorCode::blob_too_large) || error.is(ErrorCode::bad_member) ||
         error.is(ErrorCode::too_large);
}

}  // namespace agent
