#include "unit_limits.h"

#include <algorithm>
#include <cmath>

#include "kernels/files.h"
#include "kernels/profile.h"
#include "protocol/blob.h"
#include "system_info.h"

namespace agent {
namespace {

void at_most(const char* what, uint64_t asked, uint64_t limit) {
  if (asked > limit) {
    throw UnitRefused("asks for " + std::to_string(asked) + " " + what + ", this rig's limit is " +
                      std::to_string(limit));
  }
}

void at_most_bytes(const char* what, uint64_t asked, uint64_t limit) {
  if (asked > limit) {
    throw UnitRefused("needs " + human_bytes(static_cast<double>(asked)) + " of " + what + ", this rig's limit is " +
                      human_bytes(static_cast<double>(limit)));
  }
}

}  // namespace

kernels::ModelConfig check_understood(const protocol::Unit& unit) {
  const std::optional<kernels::Profile> profile = kernels::profile_named(unit.profile);
  if (!profile || kernels::name_of(*profile) != unit.profile) {
    throw UnitRefused("its profile " + unit.profile + " is unknown here");
  }
  try {
    protocol::codec_from_name(unit.codec);
    const kernels::ModelConfig config = kernels::parse_model_config(unit.model);
    const uint64_t parameters = kernels::parameter_count(config);
    if (parameters != unit.parameters) {
      throw UnitRefused("it says " + std::to_string(unit.parameters) + " parameters, its model has " +
                        std::to_string(parameters));
    }
    // Two machines' pow might disagree; a unit has one right answer.
    if (config.family == kernels::Family::llama && !unit.model.contains("rope_inverse_frequencies")) {
      throw UnitRefused("its model has no rope_inverse_frequencies");
    }
    if (unit.context > config.positions) {
      throw UnitRefused("its context of " + std::to_string(unit.context) + " is beyond the model's " +
                        std::to_string(config.positions) + " positions");
    }
    return config;
  } catch (const std::invalid_argument& error) {
    throw UnitRefused(std::string("its model is unknown here: ") + error.what());
  } catch (const protocol::Error& error) {
    throw UnitRefused(error.what());
  }
}

uint64_t result_bytes(const protocol::Unit& unit, const kernels::ModelConfig& config) {
  if (unit.kind == protocol::UnitKind::train) {
    return protocol::blob_header_bytes +
           protocol::payload_bytes(protocol::codec_from_name(unit.codec), kernels::parameter_count(config));
  }
  const uint64_t block_rows = (1024 + unit.context - 1) / unit.context;
  return protocol::blob_header_bytes + sizeof(float) * ((unit.batch + block_rows - 1) / block_rows);
}

double estimated_seconds(const protocol::Unit& unit, const kernels::ModelConfig& config, double flops_per_second) {
  const double flops = static_cast<double>(unit.tokens) * kernels::training_flops_per_token(config, unit.context);
  const double share = unit.kind == protocol::UnitKind::evaluate ? 1.0 / 3 : 1;  // forward only
  return share * flops / flops_per_second;
}

void check_limits(const protocol::Unit& unit, const UnitDemand& demand, const Limits& limits, uint64_t memory_available,
                  uint64_t deadline_s) {
  at_most("parameters", unit.parameters, limits.parameters);
  at_most("tokens", unit.tokens, limits.tokens);
  at_most("steps", unit.steps, limits.steps);
  at_most("rows a batch", unit.batch, limits.batch);
  at_most("tokens of context", unit.context, limits.context);
  at_most_bytes("downloads", demand.download_bytes, limits.download_mb * megabyte);
  at_most_bytes("result", demand.result_bytes, limits.result_mb * megabyte);
  if (limits.memory_mb > 0) at_most_bytes("memory", demand.planned_bytes, limits.memory_mb * megabyte);
  at_most_bytes("memory", demand.planned_bytes, demand.held_bytes + memory_available);
  const double allowed = static_cast<double>(std::min(limits.seconds, deadline_s));
  if (demand.estimated_seconds > allowed) {
    throw UnitRefused("would take about " + std::to_string(std::llround(demand.estimated_seconds)) +
                      " s here, allowed are " + std::to_string(std::llround(allowed)) + " s");
  }
}

}  // namespace agent
