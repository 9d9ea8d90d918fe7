// Any text to every parser of documents: Error is the only way out, what is accepted survives being written again, and
// an accepted job has a plan.
#include <cstdlib>
#include <optional>

#include "protocol/plan.h"

namespace {

// The document, if the text is one.
template <class Document>
std::optional<Document> check(std::string_view text, Document (*parse)(std::string_view)) {
  std::optional<Document> document;
  try {
    document = parse(text);
  } catch (const protocol::Error&) {
    return std::nullopt;
  }
  const std::string written = protocol::to_canonical(*document);
  if (protocol::to_canonical(parse(written)) != written) std::abort();
  return document;
}

void check_plan(const protocol::JobDescription& job) {
  if (job.steps > 1000 || job.lanes_per_unit > 1000) return;  // right, but slow
  for (const auto kind : {protocol::UnitKind::train, protocol::UnitKind::evaluate}) {
    try {
      const protocol::Unit unit = protocol::plan_unit(job, job.rounds - 1, kind, 0);
      for (const protocol::ShardReference& shard : unit.shards) {
        const uint64_t begin =
            protocol::row_begin(unit.seed, unit.round, unit.first_lane, 0, 0, shard.tokens, unit.context);
        if (begin + unit.context + 1 > shard.tokens) std::abort();
      }
      const auto row = protocol::evaluation_row(job.evaluate_rows - 1, job.evaluate_rows, job.context, job.validation);
      if (row.begin + job.context + 1 > job.validation.at(row.shard).tokens) std::abort();
    } catch (const protocol::Error&) {        // a codec of a later version
    } catch (const std::invalid_argument&) {  // more tokens than 64 bits count
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  check(text, protocol::receipt_from_canonical);
  check(text, protocol::settlement_from_canonical);
  check(text, protocol::round_record_from_canonical);
  if (const auto job = check(text, protocol::job_from_canonical)) check_plan(*job);
  return 0;
}
