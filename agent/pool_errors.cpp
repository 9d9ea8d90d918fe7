#include "pool_errors.h"

#include "files.h"
#include "pool_client.h"

namespace agent {
namespace {

using Kind = PoolTrouble::Kind;
using protocol::ErrorCode;

// What a person can do about a refusal; null where only waiting helps.
const char* advice_for(const PoolError& error) {
  switch (static_cast<ErrorCode>(error.answer.code)) {
    case ErrorCode::token_wrong:
      return "check the token of -p; gradpool account create showed it to the pool's operator";
    case ErrorCode::account_unknown:
      return "check the account of -u, or ask the pool's operator to make it (gradpool account create)";
    case ErrorCode::key_taken:
      return "this rig's key belongs to another account; run with that account, or with another data folder (--data)";
    case ErrorCode::key_revoked:
      return "ask the pool's operator why; this rig gets no more work";
    case ErrorCode::duplicate_instance:
      return "another gradminer runs with the same key, as after cloning a disk; on one of the two machines, stop it, "
             "remove key.pem from its data folder and start it again";
    case ErrorCode::agent_too_old:
      return "update gradminer";
    default:
      return nullptr;
  }
}

PoolTrouble explain_refusal(const PoolError& error, const PoolConfig& pool, bool ever_connected) {
  PoolTrouble trouble;
  trouble.wait_seconds = error.retry_after;
  trouble.busy = error.is(ErrorCode::rate_limited) || error.is(ErrorCode::overloaded);
  if (const char* advice = advice_for(error)) {
    trouble.kind = Kind::final;
    trouble.exit_code = Exit::refused;
    trouble.message = "the pool at " + pool.url + " refuses account " + pool.user + ": " + error.what() + "; " + advice;
  } else if (error.answer.code == 0 && !ever_connected) {
    trouble.kind = Kind::final;
    trouble.exit_code = Exit::unreachable;
    trouble.message = "there is no pool at " + pool.url + " (" + error.what() + "); check the address";
  } else {
    trouble.message = "the pool at " + pool.url + " answers: " + error.what();
  }
  return trouble;
}

// Of this machine. passes: after the first success it is waited for.
PoolTrouble explain_failure(const Failure& failure, bool passes, bool ever_connected) {
  PoolTrouble trouble;
  trouble.message = failure.what();
  trouble.exit_code = failure.code;
  trouble.kind = passes && ever_connected ? Kind::retry : Kind::final;
  if (passes) trouble.wait_seconds = 30;
  return trouble;
}

}  // namespace

PoolTrouble explain(const std::exception_ptr& error, const PoolConfig& pool, bool ever_connected) {
  PoolTrouble trouble;
  try {
    std::rethrow_exception(error);
  } catch (const TransportError& failure) {
    trouble.message = failure.what();
    if (failure.kind == TransportError::Kind::cancelled) trouble.kind = Kind::stopping;
    if (failure.kind == TransportError::Kind::tls && !ever_connected) {
      trouble.kind = Kind::final;
      trouble.exit_code = Exit::tls;
    }
  } catch (const PoolError& refusal) {
    trouble = explain_refusal(refusal, pool, ever_connected);
  } catch (const protocol::Error& nonsense) {  // an answer that the protocol does not know
    trouble.message = "what answers at " + pool.url + " does not speak as a pool does (" +
                      std::string(nonsense.what()) + "); check the address";
    if (!ever_connected) trouble.kind = Kind::final;
    trouble.exit_code = Exit::unreachable;
  } catch (const Failure& failure) {
    trouble = explain_failure(failure, failure.code == Exit::disk, ever_connected);
  } catch (const std::system_error& refused) {
    trouble = explain_failure(system_failure(refused), true, ever_connected);
  }
  return trouble;
}

}  // namespace agent
