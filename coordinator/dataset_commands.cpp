// gradpool dataset.
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "command_line.h"
#include "datasets.h"
#include "table.h"

namespace pool {

using nlohmann::json;

namespace {

struct DatasetArguments {
  DatasetRequest request;
  std::string text, tokens, validation;
  bool json = false;
};

uint64_t tokens_of(const std::vector<protocol::ShardReference>& shards) {
  uint64_t tokens = 0;
  for (const protocol::ShardReference& shard : shards) tokens += shard.tokens;
  return tokens;
}

json to_json(const Dataset& dataset) {
  return {{"dataset", dataset.name},
          {"format", dataset.format},
          {"vocabulary", dataset.vocabulary},
          {"created", dataset.created},
          {"train_tokens", tokens_of(dataset.train)},
          {"train_shards", dataset.train.size()},
          {"validation_tokens", tokens_of(dataset.validation)},
          {"validation_shards", dataset.validation.size()}};
}

// A line that rewrites itself, on a terminal only.
void show_progress(uint64_t done, uint64_t total) {
  static int shown = -1;
  const int percent = static_cast<int>(100 * done / total);
  if (percent == shown) return;
  shown = percent;
  std::fprintf(stderr, "\rimporting [%-40.*s] %3d%%%s", percent * 40 / 100, "########################################",
               percent, done == total ? "\n" : "");
}

void import_command(const GlobalOptions& options, DatasetArguments& arguments) {
  arguments.request.is_text = !arguments.text.empty();
  arguments.request.file = arguments.request.is_text ? arguments.text : arguments.tokens;
  if (!arguments.validation.empty()) arguments.request.validation = arguments.validation;
  Core core = open_core(options, true);
  constexpr uint64_t long_import = 50'000'000;  // bytes; below, it is over before a bar can be read
  std::error_code error;
  const bool is_long = std::filesystem::file_size(arguments.request.file, error) > long_import && !error;
  const Dataset dataset =
      import_dataset(core, arguments.request, is_long && isatty(STDERR_FILENO) ? Progress(show_progress) : Progress());
  if (arguments.json) return print_json(to_json(dataset));
  std::cout << "dataset " << dataset.name << " (" << dataset.format << "): " << show_count(tokens_of(dataset.train))
            << " tokens for training in " << dataset.train.size() << " shards, "
            << show_count(tokens_of(dataset.validation)) << " for validation; a model needs a vocab_size of at least "
            << dataset.vocabulary << '\n';
}

void list_command(const GlobalOptions& options, bool as_json) {
  Core core = open_core(options, false);
  json documents = json::array();
  std::vector<std::vector<std::string>> rows;
  for (const Dataset& dataset : list_datasets(core)) {
    documents.push_back(to_json(dataset));
    rows.push_back({dataset.name, dataset.format, show_count(dataset.vocabulary), show_count(tokens_of(dataset.train)),
                    show_count(dataset.train.size()), show_count(tokens_of(dataset.validation)),
                    show_time(dataset.created)});
  }
  if (as_json) return print_json(documents);
  print_table({"DATASET", "FORMAT", "VOCABULARY", "TRAIN TOKENS", "SHARDS", "VALIDATION TOKENS", "IMPORTED"}, rows);
}

}  // namespace

void add_dataset_commands(CLI::App& app, const GlobalOptions& options) {
  CLI::App* dataset = app.add_subcommand("dataset", "Data that jobs train on")->require_subcommand(1);
  const auto arguments = std::make_shared<DatasetArguments>();
  CLI::App* import_file =
      dataset->add_subcommand("import", "Cut a file into shards for rigs (which can read all of it)");
  import_file->add_option("NAME", arguments->request.name)->required();
  CLI::Option_group* source = import_file->add_option_group("source");
  source->add_option("--text", arguments->text, "Text: each byte is a token");
  source->add_option("--tokens", arguments->tokens, "uint16 tokens, raw (nanoGPT) or with llm.c's header");
  source->require_option(1);
  CLI::Option* own =
      import_file->add_option("--validation", arguments->validation, "A file of the same kind to validate on");
  import_file->add_option("--validation-share", arguments->request.validation_share, "Else this last share of the file")
      ->capture_default_str()
      ->excludes(own);
  import_file->add_flag("--json", arguments->json);
  import_file->callback([&options, arguments] { import_command(options, *arguments); });
  CLI::App* list = dataset->add_subcommand("list", "List datasets");
  list->add_flag("--json", arguments->json);
  list->callback([&options, arguments] { list_command(options, arguments->json); });
}

}  // namespace pool
