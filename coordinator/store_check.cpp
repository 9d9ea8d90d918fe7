#include "store_check.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <set>
#include <system_error>

#include "errors.h"
#include "store_repair.h"

namespace pool {
namespace {

constexpr size_t most_problems_named = 20;

struct Row {  // a file that something in the store refers to
  protocol::Digest digest{};
  int64_t number = 0;  // of a round, or id of a unit, as the query says
  std::string name;    // of a unit or another thing
};

class Checker {
 public:
  explicit Checker(Core& core) : core_(core) {}

  StoreCheck run() {
    check_database();
    check_books();
    for (const std::string& job : names("SELECT name FROM jobs ORDER BY name")) check_documents(job);
    if (problems_.empty()) {
      for (const std::string& job : unfinished_jobs())
        check_job(*core_.store.read([&](Db& db) { return core_.job(db, job); }));
      check_others();
    }
    if (!problems_.empty()) refuse();
    repair();
    return std::move(found_);
  }

 private:
  enum class Depth { size, content };

  // --- the database ---

  void check_database() {
    core_.store.read([&](Db& db) {
      SQLite::Statement rows(db, "PRAGMA quick_check(3)");
      while (rows.executeStep()) {
        if (const std::string said = text_at(rows, 0); said != "ok") problem("gradpool.db is damaged: " + said);
      }
    });
  }

  void check_books() {
    core_.store.read([&](Db& db) {
      if (const int64_t sum = integer(db, 0, "SELECT sum(amount) FROM ledger_postings"); sum != 0)
        problem("the ledger's postings sum to " + std::to_string(sum) + " instead of 0");
      SQLite::Statement rows(
          db,
          "SELECT b.account, b.amount, coalesce(p.amount, 0) FROM ledger_balances b LEFT JOIN (SELECT account, "
          "sum(amount) AS amount FROM ledger_postings GROUP BY account) p ON p.account = b.account "
          "WHERE b.amount <> coalesce(p.amount, 0) OR b.amount < 0 AND b.account <> 'treasury'");
      while (rows.executeStep()) {
        problem("the books give " + text_at(rows, 0) + " a balance of " + text_at(rows, 1) + ", its postings sum to " +
                text_at(rows, 2));
      }
    });
  }

  // The job's description and its newest record are what the pool signed.
  void check_documents(const std::string& job) {
    core_.store.read([&](Db& db) {
      Statement row = query(db, "SELECT document, signature, digest FROM jobs WHERE name = ?", job);
      row.executeStep();
      if (!is_signed(row)) problem("the description of job " + job + " is not what this pool signed");
      Statement record = query(db,
                               "SELECT r.document, r.signature, r.digest, w.digest FROM jobs j LEFT JOIN rounds r "
                               "ON r.job = j.name AND r.round = j.rounds_done - 1 LEFT JOIN weights w ON w.job = "
                               "j.name AND w.round = j.rounds_done WHERE j.name = ? AND j.rounds_done > 0",
                               job);
      if (!record.executeStep()) return;
      if (!is_signed(record) || record.isColumnNull(3) ||
          protocol::round_record_from_canonical(text_at(record, 0)).weights != bytes_at(record, 3)) {
        problem("the newest round's record of job " + job + " is not what this pool signed, or not of these weights");
      }
    });
  }
  bool is_signed(SQLite::Statement& row) const {
    if (row.isColumnNull(0) || row.getColumn(1).getBytes() != 64 || row.getColumn(2).getBytes() != 32) return false;
    const protocol::SignedDocument document{text_at(row, 0), bytes_at<64>(row, 1)};
    return verify_document(document, core_.key.public_key()) && protocol::sha256(document.document) == bytes_at(row, 2);
  }

  // --- files ---

  void check_job(const Job& job) {
    const std::string& name = job.name();
    const auto newest = static_cast<uint64_t>(number("SELECT rounds_done FROM jobs WHERE name = ?", name));
    for (const Row& result :
         rows("SELECT r.digest, u.id, u.name FROM units u JOIN results r ON r.id = u.accepted JOIN "
              "rounds o ON o.job = u.job AND o.round = u.round AND o.closed IS NULL WHERE u.job = ? "
              "AND u.kind = 'train' ORDER BY u.number",
              name)) {
      if (!lost(result, Depth::content)) continue;
      repaired("the result of unit " + result.name, "the unit is open again; the treasury bears its pay",
               [this, result] { reopen_unit(core_, result.number); });
    }
    for (const Row& update :
         rows("SELECT digest, round, '' FROM updates WHERE job = ? AND kept ORDER BY round", name)) {
      const auto round = static_cast<uint64_t>(update.number);
      if (!lost(update, round + 1 == newest ? Depth::content : Depth::size)) continue;
      repaired("update " + std::to_string(round) + " of job " + name, "rigs get a checkpoint instead",
               [this, name, round] { give_up_update(core_, name, round); });
    }
    check_weights(job, newest);
    for (const Row& state : rows("SELECT momentum, 0, 'momentum' FROM outer_states WHERE job = ?1 UNION ALL SELECT "
                                 "variance, 0, 'variance' FROM outer_states WHERE job = ?1 AND variance IS NOT NULL "
                                 "UNION ALL SELECT residual, 0, 'residual' FROM outer_states WHERE job = ?1",
                                 name)) {
      if (lost(state, Depth::content)) missing("the outer optimiser's " + state.name + " of job " + name, state.digest);
    }
    for (const auto* shards : {&job.description.train, &job.description.validation}) {
      for (const auto& shard : *shards) {
        if (lost({shard.blob.digest, 0, ""}, Depth::content)) missing("a shard of job " + name, shard.blob.digest);
      }
    }
  }

  void check_weights(const Job& job, uint64_t newest) {
    for (const Row& weights :
         rows("SELECT digest, round, '' FROM weights WHERE job = ? AND kept ORDER BY round", job.name())) {
      const auto round = static_cast<uint64_t>(weights.number);
      if (!lost(weights, round == newest ? Depth::content : Depth::size)) continue;
      const std::string what = "the weights of round " + std::to_string(round) + " of job " + job.name();
      if (rebuild_weights(core_, job, round, weights.digest)) {
        repaired(what, "made again from an older checkpoint and the updates since", {});
      } else if (round < newest) {
        repaired(what, "kept no longer", [this, name = job.name(), round] { give_up_checkpoint(core_, name, round); });
      } else {
        missing(what, weights.digest);
      }
    }
  }

  // What only finished jobs, exports and comparisons would read.
  void check_others() {
    for (const Row& result :
         rows("SELECT r.digest, 0, u.name FROM results r JOIN units u ON u.id = r.unit WHERE r.kept "
              "AND r.digest IS NOT NULL")) {
      if (seen_.contains(result.digest) || !lost(result, Depth::size)) continue;
      repaired("a result of unit " + result.name, "kept no longer; its digest stays, which is all that checks compare",
               [this, result] { give_up_results(core_, result.digest); });
    }
    for (const Row& other : rows(
             "SELECT digest, 0, 'file ' || name || ' of job ' || job FROM job_files UNION SELECT digest, 0, 'a shard "
             "of "
             "dataset ' || dataset FROM shards UNION SELECT digest, 0, 'the weights of round ' || round || ' of job ' "
             "|| "
             "job FROM weights WHERE kept UNION SELECT digest, 0, 'update ' || round || ' of job ' || job FROM updates "
             "WHERE kept")) {
      if (seen_.contains(other.digest) || !lost(other, Depth::size)) continue;
      found_.warnings.push_back(other.name + " is missing or damaged: " + core_.store.blob_path(other.digest).string());
    }
  }

  // Whether the file is missing, has another size, or (content) another digest.
  bool lost(const Row& file, Depth depth) {
    const std::filesystem::path path = core_.store.blob_path(file.digest);
    const int64_t bytes = core_.store.read(
        [&](Db& db) { return integer(db, -1, "SELECT bytes FROM blobs WHERE digest = ?", file.digest); });
    struct stat status {};
    seen_.insert(file.digest);
    ++found_.files;
    if (stat(path.c_str(), &status) != 0) {
      if (errno == ENOENT) return true;  // after another error it may be whole
      throw Failure(ExitCode::store, "cannot read " + path.string() + ": " + std::generic_category().message(errno));
    }
    if (status.st_size != bytes) return true;
    if (depth == Depth::size) return false;
    ++found_.files_read;
    found_.bytes_read += static_cast<uint64_t>(bytes);
    return protocol::sha256(MappedFile(path).bytes()) != file.digest;
  }

  // --- what was found ---

  template <class... Values>
  std::vector<Row> rows(const char* text, const Values&... values) {
    return core_.store.read([&](Db& db) {
      std::vector<Row> list;
      Statement statement = query(db, text, values...);
      while (statement.executeStep())
        list.push_back({bytes_at(statement, 0), statement.getColumn(1).getInt64(), text_at(statement, 2)});
      return list;
    });
  }
  int64_t number(const char* text, const std::string& value) {
    return core_.store.read([&](Db& db) { return integer(db, 0, text, value); });
  }
  std::vector<std::string> names(const char* text) {
    return core_.store.read([&](Db& db) {
      std::vector<std::string> list;
      SQLite::Statement statement(db, text);
      while (statement.executeStep()) list.push_back(text_at(statement, 0));
      return list;
    });
  }
  std::vector<std::string> unfinished_jobs() {
    return names("SELECT name FROM jobs WHERE state NOT IN ('completed', 'cancelled') ORDER BY name");
  }
  void repaired(const std::string& what, const std::string& how, const std::function<void()>& give_up) {
    found_.repairs.push_back(what + ", missing or damaged: " + how);
    if (give_up) give_up_.push_back(give_up);
  }
  // Only once the start does not refuse: else what is given up would be lost though its file is put back.
  void repair() {
    for (const auto& give_up : give_up_) give_up();
    for (const std::string& job : unfinished_jobs()) {
      for (std::string& work : core_.store.write([&](Db& db) { return give_up_work(core_, db, job); }))
        found_.repairs.push_back(std::move(work));
    }
    if (const uint64_t files = remove_unlisted_blobs(core_); files > 0) {
      found_.repairs.push_back(std::to_string(files) + " unfinished files in blobs/ that nothing referred to: removed");
    }
  }
  void problem(const std::string& what) { problems_.push_back(what); }
  void missing(const std::string& what, const protocol::Digest& digest) {
    problem(what + " is missing or damaged: " + core_.store.blob_path(digest).string());
    ++missing_files_;
  }
  [[noreturn]] void refuse() {
    std::string text = core_.store.folder().string() + " cannot be served:";
    for (size_t i = 0; i < std::min(problems_.size(), most_problems_named); ++i) text += "\n  " + problems_[i];
    if (problems_.size() > most_problems_named)
      text += "\n  and " + std::to_string(problems_.size() - most_problems_named) + " more";
    text += "\nRestore a backup into a new folder: gradpool --data NEW restore --from BACKUP";
    if (missing_files_ == problems_.size()) {
      text += "\nOr put the files back, for example from a backup's blobs/: a file's name is its SHA-256.";
    }
    throw Failure(ExitCode::store, text);
  }

  Core& core_;
  StoreCheck found_;
  std::set<protocol::Digest> seen_;
  std::vector<std::function<void()>> give_up_;
  std::vector<std::string> problems_;
  size_t missing_files_ = 0;
};

}  // namespace

StoreCheck check_store(Core& core) { return Checker(core).run(); }

}  // namespace pool
