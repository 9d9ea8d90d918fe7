#include "choose_unit.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>

#include "leases.h"
#include "rounds.h"
#include "weights.h"

namespace pool {
namespace {

constexpr double default_flops = 1e9;    // of a rig that does not say
constexpr double max_estimate_s = 3600;  // longer units are not given to a rig
constexpr int64_t refusal_pause_s = 60;  // before a unit goes to a key again whose result of it was refused
constexpr int64_t overdue_check_rounds = 3;
constexpr double copy_after_s = 3;  // a copy is worth its work once a lease takes twice its estimate and this
constexpr int64_t max_out = 3;      // leases of one unit at a time
// A holder's estimate is only its word: it counts up to so many times what the rig that asks would take, or this.
constexpr double granted_times = 8, granted_s = 300;

bool contains(const std::vector<std::string>& list, const std::string& item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

std::string gigabytes(uint64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f GB", static_cast<double>(bytes) / 1e9);
  return text;
}

class Chooser {
 public:
  Chooser(Core& core, Db& db, const RigIdentity& rig, const protocol::LeaseRequest& request, const Job& job)
      : db_(db), rig_(rig), request_(request), job_(job), now_(core.clock.now()) {
    if (const auto round = open_round(db, job.name())) open_round_ = static_cast<int64_t>(*round);
  }

  std::optional<Choice> choose() {
    const bool train = fits(protocol::UnitKind::train), evaluate = fits(protocol::UnitKind::evaluate);
    if (auto id = urgent_check()) return chosen(*id, true);
    if (evaluate) {
      if (auto id = evaluation(true)) return chosen(*id, false);
    }
    if (train) {
      if (auto id = free_unit("train")) return chosen(*id, false);
    }
    if (evaluate) {
      if (auto id = evaluation(false)) return chosen(*id, false);
    }
    if (other_check_) return chosen(*other_check_, true);
    if (train) {
      if (auto id = slow_unit(protocol::UnitKind::train)) return chosen(*id, false);
    }
    if (evaluate) {
      if (auto id = slow_unit(protocol::UnitKind::evaluate)) return chosen(*id, false);
    }
    return std::nullopt;
  }

  // Why choose() found nothing.
  protocol::NoLease reason() {
    if (!misfit_.empty()) return {"does_not_fit", misfit_, 5};
    const std::string& name = job_.name();
    if (open_round_ < 0) {
      return {"nothing_to_do", "all rounds of " + name + " are done; its last evaluation or checks are with others", 2};
    }
    const std::string round = "round " + std::to_string(open_round_) + " of " + name;
    const int64_t open = integer(
        db_, 0, "SELECT count(*) FROM units WHERE job = ? AND round = ? AND kind = 'train' AND accepted IS NULL", name,
        open_round_);
    if (open == 0) return {"nothing_to_do", round + " is being closed", 0};
    int64_t out = 0;
    double remaining = 0;  // seconds until the last of them should be done
    Statement rows =
        query(db_,
              "SELECT min(l.given + l.estimate) - ? FROM units u JOIN leases l ON l.unit = u.id WHERE u.job = ? "
              "AND u.round = ? AND u.kind = 'train' AND u.accepted IS NULL AND l.state = 'held' AND l.expires > ? "
              "GROUP BY u.id",
              now_, name, open_round_, now_);
    while (rows.executeStep()) {
      ++out;
      remaining = std::max(remaining, rows.getColumn(0).getDouble());
    }
    if (out < open) {
      return {"nothing_to_do",
              "the units of " + round + " that are left were given up or refused from this rig; another takes them", 5};
    }
    const auto retry = static_cast<uint64_t>(std::clamp(remaining / 4, 1.0, 5.0));
    return {"nothing_to_do",
            (open == 1 ? "the last unit of " : "all " + std::to_string(open) + " open units of ") + round +
                (open == 1 ? " is" : " are") + " being computed by others",
            retry};
  }

 private:
  double estimate(protocol::UnitKind kind) const {
    const protocol::JobDescription& d = job_.description;
    const double tokens = kind == protocol::UnitKind::train ? static_cast<double>(d.lanes_per_unit) *
                                                                  static_cast<double>(d.steps * d.batch * d.context)
                                                            : static_cast<double>(d.evaluate_rows * d.context) / 3;
    return tokens * job_.flops_per_token / (request_.flops > 0 ? request_.flops : default_flops);
  }

  // Notes what does not fit: of train units, and of evaluations once training is over.
  bool fits(protocol::UnitKind kind) {
    const protocol::JobDescription& d = job_.description;
    const std::string unit = std::string(protocol::to_string(kind)) + " units of " + job_.name();
    // Updates, of which both kinds make their weights, are in the job's codec, losses in fp32.
    const bool losses_fit = kind == protocol::UnitKind::train || contains(request_.codecs, "fp32");
    const uint64_t memory = kind == protocol::UnitKind::train ? job_.train_memory : job_.evaluate_memory;
    std::string misfit;
    if (!contains(request_.profiles, d.profile)) {
      misfit = unit + " need the profile " + d.profile;
    } else if (!contains(request_.kinds, protocol::to_string(kind))) {
      misfit = "this rig does not take " + unit;
    } else if (!contains(request_.codecs, d.codec) || !losses_fit) {
      misfit = unit + " need the codec " + (losses_fit ? d.codec : "fp32");
    } else if (request_.memory_bytes < memory) {
      misfit = unit + " need " + gigabytes(memory) + " of memory; this rig offers " + gigabytes(request_.memory_bytes);
    } else if (estimate(kind) > max_estimate_s) {
      misfit = unit + " would take this rig " + std::to_string(std::llround(estimate(kind))) + " seconds";
    }
    if (misfit_.empty() && (kind == protocol::UnitKind::train) == (open_round_ >= 0)) misfit_ = misfit;
    return misfit.empty();
  }

  Choice chosen(int64_t id, bool replay) {
    Choice choice{read_unit(db_, id), replay, 0};
    choice.estimate = estimate(choice.unit.kind);
    return choice;
  }

#define NOT_OUT "NOT EXISTS (SELECT 1 FROM leases l WHERE l.unit = u.id AND " LEASE_LIVES("l", ":now") ") "
#define NOT_REFUSED_FROM_KEY                                                                                     \
  "NOT EXISTS (SELECT 1 FROM leases l WHERE l.unit = u.id AND l.state = 'refused' AND l.key = :key AND l.ended " \
  "BETWEEN :now - :pause AND :now) "
// It may work on several units, but on each only once.
#define NOT_WITH_KEY \
  "NOT EXISTS (SELECT 1 FROM leases l WHERE l.unit = u.id AND l.key = :key AND " LEASE_LIVES("l", ":now") ") "
// +: by the unit's few results, not by all that the key ever gave.
#define NOT_DIVERGED_FOR_KEY \
  "NOT EXISTS (SELECT 1 FROM results r WHERE r.unit = u.id AND +r.key = :key AND r.digest IS NULL) "

  // Whether there are files from which the rig can make the weights of a round.
  bool has_weights(int64_t round) {
    const auto number = static_cast<uint64_t>(round);
    const auto [known, is_new] = has_weights_.try_emplace(number, false);
    if (is_new) known->second = weights_source(db_, job_.name(), number, request_.held).has_value();
    return known->second;
  }

  // A unit that nobody computes. Not for a key that answered it with a numeric failure.
  std::optional<int64_t> free_unit(const std::string& kind, int64_t first_round, int64_t last_round) {
    Statement rows(
        db_,
        "SELECT u.id, u.round FROM units u INDEXED BY units_open WHERE u.job = :job AND u.accepted IS NULL AND "
        "u.kind = :kind AND u.round BETWEEN :first AND :last AND " NOT_OUT "AND " NOT_REFUSED_FROM_KEY
        "AND " NOT_DIVERGED_FOR_KEY "ORDER BY u.round, u.number LIMIT 1");
    rows.bind(":kind", kind);
    rows.bind(":last", last_round);
    bind_common(rows);
    rows.bind(":first", first_round);
    while (rows.executeStep()) {
      const int64_t round = rows.getColumn(1).getInt64();
      if (has_weights(round)) return rows.getColumn(0).getInt64();
      rows.reset();
      rows.bind(":first", round + 1);
    }
    return std::nullopt;
  }
  std::optional<int64_t> free_unit(const std::string& kind) { return free_unit(kind, 0, INT64_MAX); }

  // urgent: the rig holds the weights and training has gone on, or the next evaluation is due already.
  std::optional<int64_t> evaluation(bool urgent) {
    if (!urgent) return free_unit("evaluate");
    if (open_round_ < 0) return std::nullopt;
    const auto due = open_round_ - static_cast<int64_t>(job_.description.evaluate_every);
    if (auto id = free_unit("evaluate", 0, due)) return id;
    for (const protocol::HeldWeights& held : request_.held) {
      const auto round = static_cast<int64_t>(held.round);
      if (held.job != job_.name() || round >= open_round_) continue;
      if (auto id = free_unit("evaluate", round, round)) return id;
    }
    return std::nullopt;
  }

  // A check that this account has no part in yet, of weights that the rig holds, or overdue. Notes the first other one.
  // Units are numbered as their rounds open: the rows come from the index in the order of rounds, and those of rounds
  // that cannot be urgent are not read.
  std::optional<int64_t> urgent_check() {
    Statement rows(
        db_,
        "SELECT u.id, u.round, u.kind FROM checks c CROSS JOIN units u ON u.id = c.unit WHERE c.state = 'open' AND "
        "u.job = :job AND u.accepted IS NOT NULL AND NOT EXISTS (SELECT 1 FROM leases l WHERE l.unit = u.id AND "
        "l.replay AND " LEASE_LIVES(
            "l", ":now") ") AND " NOT_WITH_KEY "AND " NOT_REFUSED_FROM_KEY
                         "AND NOT EXISTS (SELECT 1 FROM results r WHERE r.unit = u.id AND r.account = :account) "
                         "ORDER BY c.unit");
    rows.bind(":account", rig_.account);
    bind_common(rows);
    const int64_t overdue = open_round_ < 0 ? INT64_MAX : open_round_ - overdue_check_rounds;
    int64_t last = overdue;
    for (const protocol::HeldWeights& held : request_.held) {
      if (held.job == job_.name()) last = std::max(last, static_cast<int64_t>(held.round));
    }
    while (rows.executeStep()) {
      const int64_t round = rows.getColumn(1).getInt64();
      if (round > last && other_check_) break;
      const auto kind = text_at(rows, 2) == "train" ? protocol::UnitKind::train : protocol::UnitKind::evaluate;
      const bool urgent = round <= overdue || holds(request_.held, job_.name(), static_cast<uint64_t>(round));
      if ((!urgent && other_check_) || !fits(kind) || !has_weights(round)) continue;
      if (urgent) return rows.getColumn(0).getInt64();
      other_check_ = rows.getColumn(0).getInt64();
    }
    return std::nullopt;
  }

  // A unit that is out for longer than it should take; the first valid result wins. Leases older than any
  // may be do not use up max_out.
  std::optional<int64_t> slow_unit(protocol::UnitKind kind) {
    Statement rows(
        db_,
        "SELECT u.id, u.round FROM (SELECT u.id, u.round, u.number, min(o.given) AS given FROM units u JOIN leases o "
        "ON o.unit = u.id AND " LEASE_LIVES(
            "o", ":now") "WHERE u.job = :job AND u.accepted IS NULL AND u.kind = :kind GROUP BY u.id HAVING "
                         "sum(o.given + 2 * :longest + :after >= :now) < :max_out AND "
                         "max(o.given + 2 * min(o.estimate, :longest)) + :after < :now) u "
                         "WHERE " NOT_WITH_KEY "AND " NOT_REFUSED_FROM_KEY "AND " NOT_DIVERGED_FOR_KEY
                         "ORDER BY u.given, u.number");
    rows.bind(":kind", protocol::to_string(kind));
    rows.bind(":longest", std::max(granted_s, granted_times * estimate(kind)));
    rows.bind(":max_out", max_out);
    rows.bind(":after", copy_after_s);
    bind_common(rows);
    while (rows.executeStep()) {
      if (has_weights(rows.getColumn(1).getInt64())) return rows.getColumn(0).getInt64();
    }
    return std::nullopt;
  }

  void bind_common(Statement& rows) {
    rows.bind(":job", job_.name());
    rows.bind(":now", now_);
    rows.bind(":pause", refusal_pause_s);
    rows.bind(":key", static_cast<const void*>(rig_.key.data()), static_cast<int>(rig_.key.size()));
  }

  Db& db_;
  const RigIdentity& rig_;
  const protocol::LeaseRequest& request_;
  const Job& job_;
  const int64_t now_;
  int64_t open_round_ = -1;
  std::string misfit_;
  std::optional<int64_t> other_check_;
  std::map<uint64_t, bool> has_weights_;  // by round
};

struct Candidate {
  std::string job;
  bool running = false;  // else unfunded: no new round, but the checks and evaluations of its rounds go on
};

// Those with the fewest leases out first.
std::vector<Candidate> candidates(Db& db, int64_t now) {
  Statement rows = query(
      db,
      "SELECT name, state = 'running' FROM jobs j LEFT JOIN (SELECT u.job, count(*) AS leases FROM leases l CROSS "
      "JOIN units u ON u.id = l.unit WHERE l.state = 'held' AND l.expires > ? GROUP BY u.job) out ON out.job = "
      "j.name WHERE state IN ('running', 'unfunded') ORDER BY coalesce(out.leases, 0), created, name",
      now);
  std::vector<Candidate> jobs;
  while (rows.executeStep()) jobs.push_back({text_at(rows, 0), rows.getColumn(1).getInt() != 0});
  return jobs;
}

protocol::NoLease reason_without_running_job(Db& db) {
  Statement rows(db,
                 "SELECT name, state, detail FROM jobs WHERE state IN ('unfunded', 'paused', 'diverged') "
                 "ORDER BY state = 'unfunded' DESC, name LIMIT 1");
  if (!rows.executeStep()) return {"no_job", "the pool has no job to do", 5};
  const std::string name = text_at(rows, 0), state = text_at(rows, 1);
  if (state == "unfunded") return {"unfunded", "job " + name + " waits for money: " + text_at(rows, 2), 5};
  return {"paused",
          "job " + name + " is " + (state == "paused" ? "paused by its owner" : "stopped: " + text_at(rows, 2)), 5};
}

}  // namespace

ChoiceOrReason choose_unit(Core& core, Db& db, const RigIdentity& rig, const protocol::LeaseRequest& request) {
  std::optional<protocol::NoLease> none;
  for (const Candidate& candidate : candidates(db, core.clock.now())) {
    const std::shared_ptr<const Job> job = core.job(db, candidate.job);
    Chooser chooser(core, db, rig, request, *job);
    if (auto choice = chooser.choose()) return {std::move(choice), {}};
    if (!candidate.running) continue;
    protocol::NoLease reason = chooser.reason();
    if (!none || (none->reason == "does_not_fit" && reason.reason != "does_not_fit")) none = std::move(reason);
  }
  return {std::nullopt, none ? *none : reason_without_running_job(db)};
}

}  // namespace pool
