#include "fake_rig.h"

#include <cstring>
#include <fstream>

#include "datasets.h"
#include "files.h"
#include "kernels/codec.h"
#include "kernels/files.h"
#include "kernels/training.h"
#include "ledger.h"
#include "protocol/blob.h"
#include "protocol/plan.h"
#include "status.h"

namespace pool::testing {
namespace {

kernels::Ops& ops() {
  thread_local const auto own = kernels::make_cpu_ops(1);
  return *own;
}

// Repetitive text, so that a tiny model has something to learn.
std::string sample_text() {
  std::string text;
  for (int i = 0; text.size() < 6000; ++i) text += "the quick brown fox number " + std::to_string(i % 17) + " jumps; ";
  return text;
}

std::vector<uint16_t> read_tokens(const std::filesystem::path& file) {
  const std::vector<uint8_t> bytes = read_file(file);
  std::vector<uint16_t> tokens(bytes.size() / 2);
  std::memcpy(tokens.data(), bytes.data(), 2 * tokens.size());
  return tokens;
}

std::vector<float> floats(std::span<const uint8_t> bytes) {
  std::vector<float> values(bytes.size() / 4);
  std::memcpy(values.data(), bytes.data(), 4 * values.size());
  return values;
}

std::vector<uint8_t> make_blob(protocol::BlobKind kind, protocol::CodecId codec, std::span<const float> values) {
  const protocol::BlobHeader header = protocol::make_blob_header(kind, codec, values.size());
  std::vector<uint8_t> blob(sizeof header + kernels::encoded_bytes(static_cast<kernels::Codec>(codec), values.size()));
  std::memcpy(blob.data(), &header, sizeof header);
  kernels::encode(static_cast<kernels::Codec>(codec), values, std::span(blob).subspan(sizeof header));
  return blob;
}

}  // namespace

// In memory where there is such a place: the pool syncs every file and transaction, which is slow on a busy disk.
TemporaryFolder::TemporaryFolder()
    : path((std::filesystem::is_directory("/dev/shm") ? "/dev/shm" : std::filesystem::temp_directory_path()) /
           ("gradpool-test-" + protocol::random_hex16())) {
  std::filesystem::create_directory(path);
}
TemporaryFolder::~TemporaryFolder() { std::filesystem::remove_all(path); }

nlohmann::json tiny_config() {
  return {{"model_type", "gpt2"}, {"n_layer", 1u},      {"n_head", 2u},       {"n_embd", 8u},
          {"n_positions", 16u},   {"vocab_size", 256u}, {"n_inner", nullptr}, {"activation_function", "gelu_new"}};
}

std::vector<uint8_t> read_file(const std::filesystem::path& file) {
  const MappedFile mapped(file);
  return {mapped.bytes().begin(), mapped.bytes().end()};
}
void write_file(const std::filesystem::path& file, std::span<const uint8_t> bytes) {
  std::ofstream(file, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

PoolFixture::PoolFixture() {
  reopen();
  const std::string text = sample_text();
  write_file(folder.path / "text", std::span(reinterpret_cast<const uint8_t*>(text.data()), text.size()));
  std::ofstream(folder.path / "config.json") << tiny_config();
  import_dataset(
      *core,
      {.name = "text", .file = folder.path / "text", .is_text = true, .validation = {}, .validation_share = 0.1});
}

void PoolFixture::reopen() {
  pool.reset();
  core.reset();
  core = std::make_unique<Core>(folder.path / "data", clock);
  pool = std::make_unique<Pool>(folder.path / "data", clock);
}

JobRequest PoolFixture::tiny_job(const std::string& name) const {
  JobRequest request;
  protocol::JobDescription& d = request.description;
  d.job = name;
  d.rounds = 3;
  d.units_per_round = 2;
  d.lanes_per_unit = 1;
  d.steps = 2;
  d.batch = 2;
  d.context = 8;
  d.profile = "exact-fp32";
  d.codec = "int4";
  d.inner = protocol::InnerSettings{.lr = 1e-2};
  d.outer.name = "nesterov";
  d.outer.lr = 0.7;
  d.outer.momentum = 0.6;
  d.evaluate_every = 2;
  d.evaluate_rows = 130;  // two blocks
  d.check_share_ppm = 0;
  d.price = 1000;
  d.seed = 7;
  request.dataset = "text";
  request.config = folder.path / "config.json";
  return request;
}

Rig PoolFixture::rig(const std::string& account) {
  if (!tokens_.contains(account)) tokens_[account] = create_account(*core, account);
  return Rig(pool, clock, account, tokens_[account]);
}

void PoolFixture::advance() {
  while (pool->advance()) {
  }
}

void PoolFixture::run(std::vector<Rig*> rigs, const std::string& job, int max_turns) {
  advance();
  for (int turn = 0; turn < max_turns && status(job).state == "running"; ++turn) {
    bool worked = false;
    for (Rig* rig : rigs) {
      const protocol::LeaseAnswer answer = rig->ask();
      if (answer.lease) {
        rig->work(*answer.lease);
        worked = true;
      }
      advance();
    }
    if (!worked) clock.time += 30;
  }
}

JobStatus PoolFixture::status(const std::string& job) { return job_status(*core, job); }

std::vector<std::string> PoolFixture::weights_digests(const std::string& job) {
  return core->store.read([&](Db& db) {
    Statement rows = query(db, "SELECT digest FROM weights WHERE job = ? ORDER BY round", job);
    std::vector<std::string> digests;
    while (rows.executeStep()) digests.push_back(protocol::to_hex(bytes_at(rows, 0)));
    return digests;
  });
}

void PoolFixture::expect_books_balance() {
  EXPECT_EQ(number("SELECT coalesce(sum(amount), 0) FROM ledger_postings"), 0);
  EXPECT_EQ(
      number("SELECT count(*) FROM (SELECT 1 FROM ledger_postings GROUP BY transaction_id HAVING sum(amount) <> 0)"),
      0);
  EXPECT_EQ(number("SELECT count(*) FROM ledger_balances b WHERE amount <> "
                   "(SELECT sum(amount) FROM ledger_postings p WHERE p.account = b.account)"),
            0);
  EXPECT_EQ(number("SELECT count(*) FROM ledger_balances WHERE account <> 'treasury' AND amount < 0"), 0);
}

Rig::Rig(std::unique_ptr<Pool>& pool, ManualClock& clock, std::string account, const std::string& token)
    : pool_(&pool), clock_(&clock) {
  identity = {protocol::PrivateKey::generate().public_key(), "rig", std::move(account)};
  protocol::Enrolment enrolment;
  enrolment.account = identity.account;
  enrolment.token = token;
  enrolment.rig_id = identity.rig_id;
  enrolment.agent = "gradminer/0.1.0";
  (*pool_)->enrol(verified(), enrolment);
}

protocol::VerifiedRequest Rig::verified() const {
  protocol::VerifiedRequest request;
  request.key = identity.key;
  request.nonce = protocol::random_hex16();
  request.expires = clock_->time + 300;
  request.base = "\"@method\": POST";
  return request;
}

protocol::LeaseRequest Rig::request() const {
  protocol::LeaseRequest request;
  request.request_id = protocol::random_hex16();
  request.instance = instance;
  request.agent = "gradminer/0.1.0";
  request.profiles = {"exact-fp32/1", "exact-int8/1"};
  request.codecs = protocol::codec_names();
  request.kinds = {"train", "evaluate"};
  request.memory_bytes = 1 << 30;
  request.flops = 1e9;
  request.held = held;
  return request;
}

protocol::LeaseAnswer Rig::ask(const protocol::LeaseRequest& request) {
  (*pool_)->admit(verified());
  return (*pool_)->lease(identity, request);
}

protocol::Lease Rig::take() {
  const protocol::LeaseAnswer answer = ask();
  if (!answer.lease) throw std::runtime_error("no lease: " + answer.none->reason + ": " + answer.none->message);
  return *answer.lease;
}

const std::vector<float>& Rig::weights_of(const protocol::Unit& unit) {
  const protocol::WeightsSource& source = unit.weights;
  if (const auto found = cache_.find({unit.job, source.round}); found != cache_.end()) return found->second;
  const kernels::ModelConfig model = kernels::parse_model_config(unit.model);
  const std::string header = kernels::safetensors_header(model);
  const auto published = [&](const protocol::BlobReference& blob) {
    const auto file = (*pool_)->published_blob(blob.digest);
    if (!file) throw std::runtime_error("a blob of the weights' source is not published");
    std::vector<uint8_t> bytes = read_file(*file);
    if (bytes.size() != blob.bytes || protocol::sha256(bytes) != blob.digest)
      throw std::runtime_error("a published blob is wrong");
    return bytes;
  };
  std::vector<float> weights;
  if (source.checkpoint) {
    weights = floats(std::span<const uint8_t>(published(source.checkpoint->blob)).subspan(header.size()));
  } else {
    weights = cache_.at({unit.job, source.updates.empty() ? source.round : source.updates.front().round});
  }
  for (const protocol::UpdateReference& update : source.updates) {
    const std::vector<uint8_t> blob = published(update.blob);
    std::vector<float> change(weights.size());
    const auto codec = static_cast<kernels::Codec>(blob[12]);  // an evaluation's own codec is fp32
    kernels::decode(codec, std::span(blob).subspan(32), change.size(), 0, change);
    ops().add(change.data(), weights.data(), weights.size());
  }
  protocol::Sha256 hash;
  hash.update(std::string_view(header));
  hash.update(bytes_of(weights));
  if (hash.finish() != source.digest) throw std::runtime_error("the weights' source does not give their digest");
  held.push_back({unit.job, source.round});
  return cache_[{unit.job, source.round}] = std::move(weights);
}

Work Rig::train(const protocol::Unit& unit, const std::vector<float>& weights) {
  const kernels::ModelConfig model = kernels::parse_model_config(unit.model);
  using Purpose = kernels::Trainer::Purpose;
  kernels::Trainer trainer(model, unit.batch, unit.context, ops(),
                           {unit.inner ? Purpose::local_steps : Purpose::block_gradients, false,
                            kernels::profile_named(unit.profile).value()});
  kernels::LaneTree tree(unit.lanes, weights.size(), ops());
  std::vector<protocol::Digest> segments;
  std::vector<float> losses, lane(weights.size());
  for (uint64_t l = 0; l < unit.lanes; ++l) {
    const std::vector<uint16_t> shard = read_tokens(*(*pool_)->published_blob(unit.shards[l].blob.digest));
    std::vector<uint16_t> tokens;
    const auto rows = [&](size_t step) {
      tokens.clear();
      for (uint64_t row = 0; row < unit.batch; ++row) {
        const auto begin = static_cast<std::ptrdiff_t>(
            protocol::row_begin(unit.seed, unit.round, unit.first_lane + l, step, row, shard.size(), unit.context));
        tokens.insert(tokens.end(), shard.begin() + begin,
                      shard.begin() + begin + static_cast<std::ptrdiff_t>(unit.context) + 1);
      }
      return kernels::TokenBatch{unit.batch, unit.context, tokens};
    };
    if (unit.inner) {
      kernels::LocalAdamW adamw{unit.inner->beta1,
                                unit.inner->one_minus_beta1,
                                unit.inner->beta2,
                                unit.inner->one_minus_beta2,
                                unit.inner->epsilon,
                                unit.inner->max_grad_norm,
                                {}};
      for (const auto& step : unit.inner->steps) adamw.steps.push_back({step.decay, step.step_size, step.inv_sqrt_bc2});
      for (float loss : trainer.local_steps(weights, adamw, rows, lane)) losses.push_back(loss);
      segments.push_back(protocol::segment_digest(lane));
    } else {
      losses.push_back(trainer.gradient(weights, rows(0), lane, [&](size_t, std::span<const float> block) {
        segments.push_back(protocol::segment_digest(block));
      }));
    }
    tree.add(l, lane);
  }
  Work work;
  work.blob = make_blob(protocol::BlobKind::result, protocol::codec_from_name(unit.codec), tree.sum());
  work.submission.segments_root = protocol::merkle_root(segments);
  work.submission.loss = ops().row_sum(losses.data(), losses.size()) / static_cast<float>(losses.size());
  return work;
}

Work Rig::evaluate(const protocol::Unit& unit, const std::vector<float>& weights) {
  kernels::Trainer trainer(kernels::parse_model_config(unit.model), unit.batch, unit.context, ops(),
                           {kernels::Trainer::Purpose::evaluate, false, kernels::profile_named(unit.profile).value()});
  std::vector<uint16_t> tokens;
  for (uint64_t row = 0; row < unit.batch; ++row) {
    const protocol::EvaluationRow place = protocol::evaluation_row(row, unit.batch, unit.context, unit.shards);
    const std::vector<uint16_t> shard = read_tokens(*(*pool_)->published_blob(unit.shards[place.shard].blob.digest));
    const auto begin = shard.begin() + static_cast<std::ptrdiff_t>(place.begin);
    tokens.insert(tokens.end(), begin, begin + static_cast<std::ptrdiff_t>(unit.context) + 1);
  }
  const std::vector<float> losses = trainer.evaluate(weights, {unit.batch, unit.context, tokens});
  std::vector<protocol::Digest> segments;
  for (const float& loss : losses) segments.push_back(protocol::segment_digest(std::span(&loss, 1)));
  Work work;
  work.blob = make_blob(protocol::BlobKind::losses, protocol::CodecId::fp32, losses);
  work.submission.segments_root = protocol::merkle_root(segments);
  work.submission.loss = ops().row_sum(losses.data(), losses.size()) / static_cast<float>(losses.size());
  return work;
}

Work Rig::compute(const protocol::Lease& lease) {
  const protocol::Unit& unit = lease.unit;
  const std::vector<float>& weights = weights_of(unit);
  Work work = unit.kind == protocol::UnitKind::train ? train(unit, weights) : evaluate(unit, weights);
  work.submission.lease = lease.lease;
  work.submission.unit = unit.name;
  work.submission.attempt = lease.attempt;
  work.submission.result = {protocol::sha256(work.blob), work.blob.size()};
  work.submission.tokens = unit.tokens;
  work.submission.seconds = 0.5;
  return work;
}

Work Rig::lie(const protocol::Lease& lease, uint8_t flip) {
  Work work = compute(lease);
  if (lease.unit.kind == protocol::UnitKind::train) {
    work.blob.back() = work.blob.back() == flip ? 0 : flip;  // two nibbles of small values
    work.submission.result.digest = protocol::sha256(work.blob);
  }
  return work;
}

void Rig::upload(const Work& work) { (*pool_)->put_piece(identity, work.submission.result.digest, 0, work.blob); }
protocol::SignedDocument Rig::submit(const Work& work) {
  return (*pool_)->submit(identity, work.submission, verified(), "{}");
}
protocol::Receipt Rig::deliver(const Work& work) {
  upload(work);
  return protocol::receipt_from_canonical(submit(work).document);
}

}  // namespace pool::testing
