// Who computes what: leases, their renewal and end.
#pragma once

#include "core.h"

namespace pool {

constexpr int64_t renew_s = 60;

protocol::LeaseAnswer lease(Core& core, const RigIdentity& rig, const protocol::LeaseRequest& request);
protocol::RenewalAnswer renew(Core& core, const RigIdentity& rig, const std::string& lease);
void release(Core& core, const RigIdentity& rig, const std::string& lease);

}  // namespace pool
