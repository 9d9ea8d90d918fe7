// The way of a finished unit to the pool: upload in pieces, submission, receipt.
#pragma once

#include "outbox.h"
#include "pool_client.h"
#include "pool_identity.h"
#include "protocol/documents.h"

namespace agent {

struct Delivery {
  protocol::Receipt receipt;
  protocol::SignedDocument document;
};

// Goes on with an upload that was cut. `waited`: the item may have been sent before, by this process or an earlier one.
// The receipt is verified: signed by the pool, and about exactly this result of this rig; Failure(refused) where it is
// not. Throws also what PoolClient throws: PoolError result_conflict, bad_result, lease_unknown, blob_too_large are the
// pool's last word on this item.
Delivery deliver(PoolClient& client, const PoolIdentity& pool, const protocol::PublicKey& rig, uint64_t piece_bytes,
                 const OutboxItem& item, bool waited);

// True for refusals that another attempt cannot change.
bool is_final_for_item(const PoolError& error);

}  // namespace agent
