// Who computes what: leases, their renewal and end.
#pragma once

#include "core.h"

namespace pool {

constexpr int64_t renew_s = 60;
constexpr int64_t max_leases_of_key = 16;  // that live: a rig with many cards computes several units at a time
// In SQL: the lease LEASE lives at NOW. None lives for longer than renew_s from now: where one seems to live for twice
// that, the clock was set back by more than a correction since it was given.
#define LEASE_LIVES(LEASE, NOW) LEASE ".state = 'held' AND " LEASE ".expires BETWEEN " NOW " + 1 AND " NOW " + 120 "
static_assert(2 * renew_s == 120);

protocol::LeaseAnswer lease(Core& core, const RigIdentity& rig, const protocol::LeaseRequest& request);
protocol::RenewalAnswer renew(Core& core, const RigIdentity& rig, const std::string& lease);
void release(Core& core, const RigIdentity& rig, const std::string& lease);

}  // namespace pool
