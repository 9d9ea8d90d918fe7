#include "weights_cache.h"

#include <fcntl.h>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstring>

#include "files.h"
#include "kernels/codec.h"
#include "kernels/files.h"
#include "kernels/huge_pages.h"
#include "protocol/blob.h"
#include "protocol/json.h"

namespace agent {
namespace fs = std::filesystem;
namespace {

std::span<uint8_t> bytes_of(std::span<float> values) {
  return {reinterpret_cast<uint8_t*>(values.data()), values.size_bytes()};
}

// A model.safetensors file in canonical order into values. False when it is not one of this model.
bool read_checkpoint(const fs::path& file, const std::string& header, std::span<float> values) {
  std::error_code error;
  if (fs::file_size(file, error) != header.size() + values.size_bytes() || error) return false;
  const File in(file, O_RDONLY);
  std::string found(header.size(), '\0');
  in.read_at(0, {reinterpret_cast<uint8_t*>(found.data()), found.size()});
  if (found != header) return false;
  in.read_at(header.size(), bytes_of(values));
  return true;
}

protocol::Digest digest_of(const std::string& header, std::span<const float> values) {
  protocol::Sha256 hash;
  hash.update(header);
  hash.update({reinterpret_cast<const uint8_t*>(values.data()), values.size_bytes()});
  return hash.finish();
}

// JOB.ROUND.safetensors; nothing where the file has another name.
std::optional<protocol::HeldWeights> weights_named(const fs::path& file) {
  const std::string name = file.stem().string(), job = name.substr(0, name.find('.'));
  if (file.extension() != ".safetensors" || job.size() == name.size() || !protocol::is_job_name(job)) return {};
  uint64_t round = 0;
  const auto [end, error] = std::from_chars(name.data() + job.size() + 1, name.data() + name.size(), round);
  if (error != std::errc() || end != name.data() + name.size() || round > protocol::max_rounds) return {};
  return protocol::HeldWeights{job, round};
}

// The job's codec, which a unit need not name: an evaluation's result has another. Checked by parse_blob_header.
protocol::CodecId codec_of(std::span<const uint8_t> blob) {
  uint16_t codec = 0;
  if (blob.size() >= protocol::blob_header_bytes) {
    std::memcpy(&codec, blob.data() + offsetof(protocol::BlobHeader, codec), sizeof codec);
  }
  for (const protocol::CodecId known : protocol::all_codecs) {
    if (codec == static_cast<uint16_t>(known)) return known;
  }
  return protocol::CodecId::fp32;
}

// The payload of elements [first, first + count) of `total`, as if there were no others; first is a multiple of 64.
std::vector<uint8_t> read_elements(const File& in, kernels::Codec codec, size_t total, size_t first, size_t count) {
  std::vector<uint8_t> payload(kernels::encoded_bytes(codec, count));
  const size_t scales = kernels::scale_bytes(codec, count);
  const size_t all_scales = protocol::blob_header_bytes;
  const size_t all_digits = all_scales + kernels::scale_bytes(codec, total);
  in.read_at(all_scales + kernels::scale_bytes(codec, first), std::span(payload).first(scales));
  in.read_at(all_digits + kernels::digit_bytes(codec, first), std::span(payload).subspan(scales));
  return payload;
}

// weights = weights + decode(update), a piece at a time: memory does not grow with what a pool calls an update.
void apply_update(const fs::path& file, std::span<float> weights) {
  const File in(file, O_RDONLY);
  const uint64_t bytes = fs::file_size(file);
  std::vector<uint8_t> header(std::min<uint64_t>(bytes, protocol::blob_header_bytes));
  in.read_at(0, header);
  const protocol::CodecId id = codec_of(header);
  protocol::parse_blob_header(header, bytes, protocol::BlobKind::update, id, weights.size());
  const auto codec = static_cast<kernels::Codec>(id);
  std::vector<float> piece(std::min<size_t>(weights.size(), 1 << 16));  // a multiple of 64, but for the last
  for (size_t first = 0; first < weights.size(); first += piece.size()) {
    const std::span<float> decoded(piece.data(), std::min(piece.size(), weights.size() - first));
    const std::vector<uint8_t> payload = read_elements(in, codec, weights.size(), first, decoded.size());
    kernels::decode(codec, payload, decoded.size(), 0, decoded);
    for (size_t i = 0; i < decoded.size(); ++i) weights[first + i] += decoded[i];
  }
}

// `held` where no unit in work holds it as well, else memory of its own; with the same values if they are to be kept.
std::shared_ptr<std::vector<float>> own_weights(std::shared_ptr<std::vector<float>> held, bool keep, size_t count) {
  if (held && held.use_count() == 1) {
    kernels::resize_in_huge_pages(*held, count);
    return held;
  }
  auto own = std::make_shared<std::vector<float>>();
  kernels::resize_in_huge_pages(*own, count);
  if (keep) std::copy(held->begin(), held->end(), own->begin());
  return own;
}

}  // namespace

WeightsCache::WeightsCache(fs::path folder, BlobStore& store) : folder_(std::move(folder)), store_(store) {}

fs::path WeightsCache::file_of(const std::string& job, uint64_t round) const {
  return folder_ / "weights" / (job + "." + std::to_string(round) + ".safetensors");
}

std::vector<protocol::HeldWeights> WeightsCache::held() const {
  std::vector<std::pair<fs::file_time_type, protocol::HeldWeights>> found;
  if (!fs::is_directory(folder_ / "weights")) return {};
  for (const auto& entry : fs::directory_iterator(folder_ / "weights")) {
    const auto weights = weights_named(entry.path());
    if (weights) found.emplace_back(entry.last_write_time(), *weights);
  }
  std::ranges::stable_sort(found, std::ranges::greater(), [](const auto& each) { return each.first; });
  std::vector<protocol::HeldWeights> result;
  for (auto& each : found) result.push_back(std::move(each.second));
  return result;
}

std::optional<uint64_t> WeightsCache::newest_base(const protocol::Unit& unit) const {
  const protocol::WeightsSource& source = unit.weights;
  const uint64_t oldest = source.updates.empty() ? source.round : source.updates.front().round;
  std::optional<uint64_t> best;
  auto consider = [&](const std::string& job, uint64_t round) {
    if (job == unit.job && round >= oldest && round <= source.round && (!best || round > *best)) best = round;
  };
  if (loaded_) consider(loaded_->job, loaded_->round);
  for (const protocol::HeldWeights& held : held()) consider(held.job, held.round);
  return best;
}

uint64_t WeightsCache::missing_bytes(const protocol::Unit& unit) const {
  const std::optional<uint64_t> base = newest_base(unit);
  uint64_t bytes = 0;
  if (!base && unit.weights.checkpoint) bytes += store_.missing_bytes(unit.weights.checkpoint->blob);
  for (const protocol::UpdateReference& update : unit.weights.updates) {
    if (!base || update.round >= *base) bytes += store_.missing_bytes(update.blob);
  }
  return bytes;
}

WeightsCache::Weights WeightsCache::materialise(PoolClient& client, const protocol::Unit& unit,
                                                const kernels::ModelConfig& config, const Cancel& cancelled) {
  const std::optional<uint64_t> base = newest_base(unit);
  if (base && build(client, unit, config, base, cancelled)) return loaded_->values;
  if (base) drop_job(unit.job);
  if (!unit.weights.checkpoint) {
    throw UnitRefused(base ? "the weights that this rig held were damaged; they are dropped"
                           : "it offers updates only, and this rig holds no weights that they apply to");
  }
  if (build(client, unit, config, std::nullopt, cancelled)) return loaded_->values;
  drop_job(unit.job);
  throw UnitRefused("checkpoint and updates do not give the weights' digest");
}

// Makes the unit's weights from those of round `base`, or from the checkpoint. False when the digest is another.
bool WeightsCache::build(PoolClient& client, const protocol::Unit& unit, const kernels::ModelConfig& config,
                         std::optional<uint64_t> base, const Cancel& cancelled) {
  const protocol::WeightsSource& source = unit.weights;
  const uint64_t first = base ? *base : source.checkpoint->round;
  std::optional<fs::path> checkpoint;
  if (!base) checkpoint = store_.fetch(client, source.checkpoint->blob, cancelled);
  std::vector<std::pair<const protocol::UpdateReference*, fs::path>> updates;
  for (const protocol::UpdateReference& update : source.updates) {
    if (update.round >= first) updates.emplace_back(&update, store_.fetch(client, update.blob, cancelled));
  }

  const bool in_memory = base && loaded_ && loaded_->job == unit.job && loaded_->round == first;
  const bool verified = in_memory && updates.empty() && loaded_->digest == source.digest;
  std::shared_ptr<std::vector<float>> values;
  if (loaded_) values = std::move(loaded_->values);
  loaded_.reset();  // until the digest is verified nothing counts as loaded
  const std::string header = kernels::safetensors_header(config);
  if (!verified) values = own_weights(std::move(values), in_memory, kernels::parameter_count(config));
  if (!in_memory && !read_checkpoint(base ? file_of(unit.job, first) : *checkpoint, header, *values)) return false;
  for (const auto& [update, file] : updates) apply_update(file, *values);
  if (!verified && digest_of(header, *values) != source.digest) return false;
  loaded_ = Loaded{unit.job, source.round, source.digest, std::move(values)};

  save(unit, header);
  if (checkpoint) store_.remove(source.checkpoint->blob);
  for (const auto& [update, file] : updates) store_.remove(update->blob);
  return true;
}

void WeightsCache::save(const protocol::Unit& unit, const std::string& header) {
  const fs::path file = file_of(unit.job, unit.weights.round);
  const std::span<float> values = *loaded_->values;
  std::error_code error;
  if (fs::file_size(file, error) == header.size() + values.size_bytes() && !error) return;
  make_folders(file.parent_path());
  store_.make_room(header.size() + values.size_bytes());
  fs::path temporary = file;
  temporary += ".tmp";
  {  // not synced: a file that a power cut damaged has another digest, and is dropped
    File out(temporary, O_WRONLY | O_CREAT | O_TRUNC);
    out.write(header);
    out.write(bytes_of(values));
  }
  fs::rename(temporary, file, error);
  if (error) throw disk_failure("rename", temporary, error.value());
  for (const protocol::HeldWeights& held : held()) {
    if (held.job == unit.job && held.round + 1 < unit.weights.round) fs::remove(file_of(held.job, held.round));
  }
}

void WeightsCache::drop_job(const std::string& job) {
  for (const protocol::HeldWeights& held : held()) {
    if (held.job == job) fs::remove(file_of(job, held.round));
  }
  loaded_.reset();
}

uint64_t WeightsCache::unused_bytes() const {
  return loaded_ && loaded_->values.use_count() == 1 ? loaded_->values->size() * sizeof(float) : 0;
}

void WeightsCache::free_memory() { loaded_.reset(); }

}  // namespace agent
