// Fixed keys and one filled-in example of every message and document, for tests, golden vectors and fuzz seeds.
#pragma once

#include <string>

#include "protocol/documents.h"
#include "protocol/keys.h"
#include "protocol/messages.h"

namespace protocol::samples {

// The key whose 32-byte seed is `byte` thirty-two times. For tests only: everybody knows it.
PrivateKey test_key(uint8_t byte);
constexpr uint8_t pool_seed = 1, rig_seed = 2, new_rig_seed = 3, new_pool_seed = 4;

Digest digest_of(const std::string& text);  // SHA-256, for digests that only need to look like one
Digest pool_id();

constexpr int64_t now = 1767225600;  // 2026-01-01 00:00:00 UTC

JobDescription job();           // H = 3 local AdamW steps, outer nesterov, int4
JobDescription gradient_job();  // H = 1, outer adamw, fp32
Unit train_unit();              // of job(), round 12, index 1
Unit evaluate_unit();           // of job(), round 12

PoolInfo pool_info();  // two keys
Enrolment enrolment();
LeaseRequest lease_request();
LeaseAnswer lease_answer();
LeaseAnswer no_lease_answer();
Submission submission();
Submission diverged_submission();

Receipt receipt();
Settlement settlement();
RoundRecord round_record();

}  // namespace protocol::samples
