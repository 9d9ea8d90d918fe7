// Data that jobs train on: text as bytes, or files of uint16 tokens, cut into shards of about a million tokens.
#pragma once

#include <functional>
#include <optional>

#include "core.h"

namespace pool {

struct DatasetRequest {
  std::string name;
  std::filesystem::path file;
  bool is_text = true;  // bytes are tokens; else uint16 tokens, raw (nanoGPT) or with the header of llm.c
  std::optional<std::filesystem::path> validation;  // else the last share of `file`
  double validation_share = 0.05;
};
struct Dataset {
  std::string name, format;
  uint64_t vocabulary = 0;  // tokens are below it
  int64_t created = 0;
  std::vector<protocol::ShardReference> train, validation;
};

// Called with tokens written and tokens in all.
using Progress = std::function<void(uint64_t, uint64_t)>;

// Throws Failure: exists, not readable, empty, too short, not a token file.
Dataset import_dataset(Core& core, const DatasetRequest& request, const Progress& progress = {});
Dataset read_dataset(Db& db, const std::string& name);  // throws Failure(not_found)
std::vector<Dataset> list_datasets(Core& core);

}  // namespace pool
