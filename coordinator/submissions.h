// A result's way in: lease, blob, validity, receipt, pay, checks.
#pragma once

#include "core.h"

namespace pool {

// body: the request's exact bytes. Repeating a submission returns the stored receipt.
protocol::SignedDocument submit(Core& core, const RigIdentity& rig, const protocol::Submission& submission,
                                const protocol::VerifiedRequest& evidence, std::string_view body);

}  // namespace pool
