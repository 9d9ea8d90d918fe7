#include "datasets.h"

#include <algorithm>
#include <cmath>

#include "errors.h"
#include "protocol/json.h"
#include "token_file.h"

namespace pool {
namespace {

constexpr uint64_t shard_tokens = 1 << 20;
constexpr uint64_t min_train_tokens = 1024, min_validation_tokens = 64;
constexpr size_t chunk_tokens = 1 << 16;

[[noreturn]] void refuse(const std::string& message) { throw Failure(ExitCode::bad_input, message); }

// Cuts tokens into shards and tells how far it is.
class Sharder {
 public:
  Sharder(const Core& core, uint64_t total, const Progress& progress)
      : core_(core), total_(total), progress_(progress) {}

  std::vector<StagedFile> write(const TokenFile& file, uint64_t first, uint64_t count) {
    const uint64_t shards = (count + shard_tokens - 1) / shard_tokens;
    std::vector<StagedFile> staged;
    for (uint64_t i = 0; i < shards; ++i) {
      const uint64_t tokens = count / shards + (i < count % shards ? 1 : 0);
      staged.push_back(write_shard(file, first, tokens));
      first += tokens;
    }
    return staged;
  }
  uint16_t largest() const { return largest_; }

 private:
  StagedFile write_shard(const TokenFile& file, uint64_t first, uint64_t count) {
    StagedWriter writer(core_.store.temporary_path());
    std::vector<uint16_t> tokens;
    for (uint64_t at = 0; at < count; at += tokens.size()) {
      tokens.resize(std::min<uint64_t>(chunk_tokens, count - at));
      file.read(first + at, tokens);
      largest_ = std::max(largest_, *std::max_element(tokens.begin(), tokens.end()));
      writer.write(std::span(reinterpret_cast<const uint8_t*>(tokens.data()), 2 * tokens.size()));
      done_ += tokens.size();
      if (progress_) progress_(done_, total_);
    }
    return writer.finish();
  }

  const Core& core_;
  uint64_t total_, done_ = 0;
  const Progress& progress_;
  uint16_t largest_ = 0;
};

void require_enough(const std::string& file, const char* split, uint64_t tokens, uint64_t least) {
  if (tokens < least) {
    refuse(file + " is too short: " + std::to_string(tokens) + " tokens for " + split + ", at least " +
           std::to_string(least) + " are needed");
  }
}

void publish_shards(Store& store, Db& db, const std::string& dataset, const char* split,
                    std::vector<StagedFile>& files) {
  for (size_t i = 0; i < files.size(); ++i) {
    execute(db, "INSERT INTO shards VALUES (?, ?, ?, ?, ?, ?)", dataset, split, i, files[i].digest(), files[i].bytes(),
            files[i].bytes() / 2);
    store.publish(db, files[i]);
  }
}

void require_new(Db& db, const std::string& name) {
  if (integer(db, 0, "SELECT count(*) FROM datasets WHERE name = ?", name)) {
    throw Failure(ExitCode::refused, "the dataset " + name + " exists already");
  }
}

std::vector<protocol::ShardReference> read_shards(Db& db, const std::string& dataset, const char* split) {
  Statement rows = query(db, "SELECT digest, bytes, tokens FROM shards WHERE dataset = ? AND split = ? ORDER BY number",
                         dataset, split);
  std::vector<protocol::ShardReference> shards;
  while (rows.executeStep()) shards.push_back({{bytes_at(rows, 0), number_at(rows, 1)}, number_at(rows, 2)});
  return shards;
}

}  // namespace

Dataset import_dataset(Core& core, const DatasetRequest& request, const Progress& progress) {
  if (!protocol::is_name(request.name))
    refuse("\"" + request.name + "\" is not a dataset name: letters, digits, '.', '_' and '-'");
  if (!(request.validation_share > 0 && request.validation_share < 1))
    refuse("--validation-share must lie between 0 and 1");
  core.store.read([&](Db& db) { require_new(db, request.name); });

  const TokenFile file(request.file, request.is_text);
  std::optional<TokenFile> own;
  if (request.validation) own.emplace(*request.validation, request.is_text);
  const uint64_t validation =
      own ? own->size()
          : static_cast<uint64_t>(std::llround(static_cast<double>(file.size()) * request.validation_share));
  const uint64_t train = own ? file.size() : file.size() - validation;
  require_enough(file.name(), "training", train, min_train_tokens);
  require_enough(own ? own->name() : file.name(), "validation", validation, min_validation_tokens);

  Sharder sharder(core, train + validation, progress);
  std::vector<StagedFile> train_files = sharder.write(file, 0, train);
  std::vector<StagedFile> validation_files =
      own ? sharder.write(*own, 0, validation) : sharder.write(file, train, validation);
  return core.store.write([&](Db& db) {
    require_new(db, request.name);
    execute(db, "INSERT INTO datasets VALUES (?, ?, ?, ?)", request.name, request.is_text ? 256 : sharder.largest() + 1,
            file.format(), core.clock.now());
    publish_shards(core.store, db, request.name, "train", train_files);
    publish_shards(core.store, db, request.name, "validation", validation_files);
    return read_dataset(db, request.name);
  });
}

Dataset read_dataset(Db& db, const std::string& name) {
  Statement row = query(db, "SELECT format, vocabulary, created FROM datasets WHERE name = ?", name);
  if (!row.executeStep())
    throw Failure(ExitCode::not_found, "there is no dataset " + name + "; import one with gradpool dataset import");
  Dataset dataset{name, text_at(row, 0), number_at(row, 1), row.getColumn(2).getInt64(), {}, {}};
  dataset.train = read_shards(db, name, "train");
  dataset.validation = read_shards(db, name, "validation");
  return dataset;
}

std::vector<Dataset> list_datasets(Core& core) {
  return core.store.read([](Db& db) {
    Statement rows(db, "SELECT name FROM datasets ORDER BY name");
    std::vector<Dataset> datasets;
    while (rows.executeStep()) datasets.push_back(read_dataset(db, text_at(rows, 0)));
    return datasets;
  });
}

}  // namespace pool
