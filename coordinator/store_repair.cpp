#include "store_repair.h"

#include <algorithm>
#include <map>

#include "aggregate.h"
#include "checks.h"
#include "errors.h"
#include "kernels/files.h"
#include "ledger.h"
#include "protocol/blob.h"
#include "weights.h"

namespace pool {
namespace {

constexpr size_t piece_elements = 1 << 16;

struct Base {  // weights from which others can be made
  uint64_t round = 0;
  protocol::Digest digest{};
  std::vector<protocol::Digest> updates;  // upward
};

// Those of the kept checkpoints that all updates since are kept of, newest first.
std::vector<Base> bases_before(Db& db, const std::string& job, uint64_t round) {
  std::vector<Base> bases;
  Statement rows = query(
      db, "SELECT round, digest FROM weights WHERE job = ? AND kept AND round < ? ORDER BY round DESC", job, round);
  while (rows.executeStep()) {
    Base base{number_at(rows, 0), bytes_at(rows, 1), {}};
    Statement updates =
        query(db, "SELECT digest FROM updates WHERE job = ? AND kept AND round >= ? AND round < ? ORDER BY round", job,
              base.round, round);
    while (updates.executeStep()) base.updates.push_back(bytes_at(updates, 0));
    if (base.updates.size() == round - base.round) bases.push_back(std::move(base));
  }
  return bases;
}

// Streams, as aggregate() does.
StagedFile apply_updates(const Core& core, const Job& job, const Base& base) {
  const MappedFile weights = core.store.read_blob(base.digest);
  std::vector<MappedFile> updates;
  for (const protocol::Digest& digest : base.updates) updates.push_back(core.store.read_blob(digest));
  const std::string header = kernels::safetensors_header(job.model);
  const std::span<const float> old = weights.floats(header.size());
  const size_t parameters = job.description.parameters;
  const auto ops = kernels::make_cpu_ops(1);
  StagedWriter writer(core.store.temporary_path());
  writer.write(weights.bytes().first(header.size()));
  std::vector<float> w, change;
  for (size_t first = 0; first < parameters; first += piece_elements) {
    const auto part = old.subspan(first, std::min(piece_elements, parameters - first));
    w.assign(part.begin(), part.end());
    change.resize(w.size());
    for (const MappedFile& update : updates) {
      kernels::decode(codec_of(job), update.bytes().subspan(protocol::blob_header_bytes), parameters, first, change);
      ops->add(change.data(), w.data(), w.size());
    }
    writer.write(std::span<const float>(w));
  }
  return writer.finish();
}

}  // namespace

bool rebuild_weights(Core& core, const Job& job, uint64_t round, const protocol::Digest& digest) {
  for (const Base& base : core.store.read([&](Db& db) { return bases_before(db, job.name(), round); })) {
    try {
      StagedFile file = apply_updates(core, job, base);
      if (file.digest() != digest) continue;
      core.store.write([&](Db& db) { core.store.publish(db, file); });
      return true;
    } catch (const Failure&) {
      continue;  // one of its files is lost: perhaps an older checkpoint leads there
    }
  }
  return false;
}

void reopen_unit(Core& core, int64_t unit) {
  core.store.write([&](Db& db) {
    Statement row = query(
        db, "SELECT r.id, r.digest, r.price, u.job FROM units u JOIN results r ON r.id = u.accepted WHERE u.id = ?",
        unit);
    if (!row.executeStep()) return;
    const int64_t result = row.getColumn(0).getInt64();
    execute(db, "UPDATE results SET kept = 0 WHERE digest = ?", bytes_at(row, 1));
    execute(db, "UPDATE units SET accepted = NULL WHERE id = ?", unit);
    ledger::move(db, "lost:" + std::to_string(result), core.clock.now(), ledger::treasury,
                 ledger::job_account(text_at(row, 3)), number_at(row, 2));
  });
}

void give_up_checkpoint(Core& core, const std::string& job, uint64_t round) {
  core.store.write([&](Db& db) { execute(db, "UPDATE weights SET kept = 0 WHERE job = ? AND round = ?", job, round); });
}
void give_up_update(Core& core, const std::string& job, uint64_t round) {
  core.store.write([&](Db& db) { execute(db, "UPDATE updates SET kept = 0 WHERE job = ? AND round = ?", job, round); });
}
void give_up_results(Core& core, const protocol::Digest& digest) {
  core.store.write([&](Db& db) { execute(db, "UPDATE results SET kept = 0 WHERE digest = ?", digest); });
}

std::vector<std::string> give_up_work(Core& core, Db& db, const std::string& job) {
  struct Work {
    int64_t unit = 0;
    uint64_t round = 0;
    std::string name;
    bool is_check = false;  // else an evaluation
  };
  std::vector<Work> all;
  Statement rows = query(db,
                         "SELECT u.id, u.round, u.name, 1 FROM checks c CROSS JOIN units u ON u.id = c.unit WHERE "
                         "c.state = 'open' AND u.job = ?1 UNION ALL SELECT id, round, name, 0 FROM units WHERE job = "
                         "?1 AND kind = 'evaluate' AND accepted IS NULL",
                         job);
  while (rows.executeStep()) {
    all.push_back(
        {rows.getColumn(0).getInt64(), number_at(rows, 1), text_at(rows, 2), rows.getColumn(3).getInt() != 0});
  }
  std::vector<std::string> given_up;
  std::map<uint64_t, bool> reachable;  // rounds; thousands of units may share one
  for (const Work& work : all) {
    const auto [round, is_new] = reachable.try_emplace(work.round);
    if (is_new) round->second = weights_source(db, job, work.round, {}).has_value();
    if (round->second) continue;
    if (work.is_check) {
      expire_check(core, db, work.unit);
      // An evaluation that somebody has answered cannot be deleted: the last answer, voided or not one, closes it.
    } else if (execute(db,
                       "UPDATE units SET accepted = (SELECT max(id) FROM results WHERE unit = ?1) WHERE id = ?1 AND "
                       "EXISTS (SELECT 1 FROM results WHERE unit = ?1)",
                       work.unit) == 0) {
      execute(db, "DELETE FROM leases WHERE unit = ?", work.unit);
      execute(db, "DELETE FROM units WHERE id = ?", work.unit);
    }
    given_up.push_back((work.is_check ? "the check of " : "the evaluation ") + work.name +
                       ", whose weights no kept files lead to any more: given up");
  }
  return given_up;
}

uint64_t remove_unlisted_blobs(Core& core) try {
  // Inside a transaction, so that nobody is between a file's renaming and its row.
  return core.store.write([&](Db& db) {
    std::vector<std::filesystem::path> unlisted;
    SQLite::Statement listed(db, "SELECT 1 FROM blobs WHERE digest = ?");
    for (const auto& entry : std::filesystem::recursive_directory_iterator(core.store.folder() / "blobs")) {
      const std::string name = entry.path().filename().string();
      if (name.size() != 64 || name.find_first_not_of("0123456789abcdef") != std::string::npos) continue;
      listed.reset();
      sql::bind(listed, 1, protocol::digest_from_hex(name, "blob"));
      if (!listed.executeStep()) unlisted.push_back(entry.path());
    }
    for (const std::filesystem::path& file : unlisted) std::filesystem::remove(file);
    return unlisted.size();
  });
} catch (const std::filesystem::filesystem_error& error) {  // which names no file when a step of an iterator fails
  throw Failure(ExitCode::store,
                "cannot read " + (core.store.folder() / "blobs").string() + ": " + error.code().message());
}

}  // namespace pool
