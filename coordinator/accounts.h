// Accounts and their rigs: enrolment, admission of a signed request, revocation and bars.
#pragma once

#include <string>
#include <vector>

#include "core.h"

namespace pool {

struct Account {
  std::string name;
  int64_t created = 0;
  uint64_t rigs = 0;
  int64_t earned = 0, in_escrow = 0;  // micro-credits
};

// The enrolment token, which only its hash remembers. Throws Failure (bad name, exists).
std::string create_account(Core& core, const std::string& name);
std::vector<Account> list_accounts(Core& core);

std::vector<RigStatus> list_rigs(Db& db);
// By key or by rig id. Throws Failure where none or several match.
RigStatus revoke_rig(Core& core, const std::string& key_or_rig_id);
// Ends a rig's leases too.
void stop_rig(Db& db, const protocol::PublicKey& key, const char* state, const std::string& reason, int64_t now);

void enrol(Core& core, const protocol::VerifiedRequest& request, const protocol::Enrolment& enrolment);
RigIdentity admit(Core& core, const protocol::VerifiedRequest& request);
// Throws Error(key_revoked) for a key that was revoked or barred after its request was admitted.
void require_active_rig(Db& db, const protocol::PublicKey& key);

extern const char* const minimum_agent;
// Throws Error(agent_too_old) below minimum_agent, Error(bad_member) unless it is NAME/X.Y.Z.
void require_recent_agent(const std::string& agent);

}  // namespace pool
