#include "samples.h"

#include <openssl/evp.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "protocol/plan.h"

namespace protocol::samples {

PrivateKey test_key(uint8_t byte) {
  // PKCS#8 of Ed25519 (RFC 8410): a fixed prefix, then the seed.
  std::vector<uint8_t> der = {0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06,
                              0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20};
  der.insert(der.end(), 32, byte);
  const std::string pem = "-----BEGIN PRIVATE KEY-----\n" + base64(der) + "\n-----END PRIVATE KEY-----\n";

  std::string name = (std::filesystem::temp_directory_path() / "protocol-key-XXXXXX").string();
  const int descriptor = ::mkstemp(name.data());  // mode 0600
  if (descriptor < 0) throw std::runtime_error("cannot create a file in " + name);
  const bool written = ::write(descriptor, pem.data(), pem.size()) == static_cast<ssize_t>(pem.size());
  ::close(descriptor);
  if (!written) throw std::runtime_error("cannot write " + name);
  PrivateKey key = PrivateKey::load(name);
  std::filesystem::remove(name);
  return key;
}

Digest digest_of(const std::string& text) { return sha256(std::string_view(text)); }

Digest pool_id() { return sha256(test_key(pool_seed).public_key()); }

namespace {

ShardReference shard(const std::string& name, uint64_t tokens) { return {{digest_of(name), 2 * tokens}, tokens}; }

JobDescription common_job() {
  JobDescription job;
  job.pool_id = pool_id();
  job.profile = "exact-fp32/1";
  job.model = {{"model_type", "gpt2"}, {"n_layer", 2},      {"n_head", 2},        {"n_embd", 32},
               {"n_positions", 64},    {"vocab_size", 256}, {"n_inner", nullptr}, {"layer_norm_epsilon", 1e-5}};
  job.parameters = 35712;
  job.train = {shard("train 0", 400'000), shard("train 1", 400'000), shard("train 2", 123'457)};
  job.validation = {shard("validation 0", 50'000), shard("validation 1", 40'001)};
  job.units_per_round = 2;
  job.context = 64;
  job.evaluate_every = 4;
  job.evaluate_rows = 33;
  job.price = 1'000'000;
  job.initial_weights = {digest_of("weights 0"), 143'576};
  return job;
}

void set_prices(JobDescription& job) {
  const uint64_t flops = 6 * job.parameters + 6 * 2 * job.context * 32;  // 6 N + 6 L T C
  job.price_train = price_of(job.lanes_per_unit * job.steps * job.batch * job.context, flops, job.price);
  job.price_evaluate = price_of(job.evaluate_rows * job.context, flops / 3, job.price);
}

}  // namespace

JobDescription job() {
  JobDescription job = common_job();
  job.job = "kjv";
  job.codec = "int4";
  job.rounds = 1000;
  job.lanes_per_unit = 2;
  job.steps = 3;
  job.batch = 5;
  job.seed = 0xfedcba9876543210;
  job.inner = InnerSettings{.lr = 0.004,
                            .beta1 = 0.9,
                            .beta2 = 0.95,
                            .epsilon = 1e-8,
                            .weight_decay = 0.1,
                            .max_grad_norm = 1,
                            .warmup_steps = 100};
  job.outer.name = "nesterov";
  job.outer.lr = 0.7;
  job.outer.momentum = 0.6;
  job.clip_norm = 2.5;
  set_prices(job);
  return job;
}

JobDescription gradient_job() {
  JobDescription job = common_job();
  job.job = "plain-1";
  job.codec = "fp32";
  job.rounds = 500;
  job.lanes_per_unit = 1;
  job.steps = 1;
  job.batch = 12;
  job.seed = 7;
  job.outer.name = "adamw";
  job.outer.lr = 0.001;
  job.outer.weight_decay = 0.1;
  job.outer.warmup_rounds = 10;
  set_prices(job);
  return job;
}

Unit train_unit() {
  Unit unit = plan_unit(job(), 12, UnitKind::train, 1);
  unit.weights.round = 12;
  unit.weights.digest = digest_of("weights 12");
  unit.weights.checkpoint = CheckpointReference{10, {digest_of("weights 10"), 143'576}};
  unit.weights.updates = {{10, {digest_of("update 10"), 20'120}, digest_of("weights 11")},
                          {11, {digest_of("update 11"), 20'120}, digest_of("weights 12")}};
  return unit;
}

Unit evaluate_unit() {
  Unit unit = plan_unit(job(), 12, UnitKind::evaluate, 0);
  unit.weights.round = 12;
  unit.weights.digest = digest_of("weights 12");
  unit.weights.updates = {{11, {digest_of("update 11"), 20'120}, digest_of("weights 12")}};
  return unit;
}

PoolInfo pool_info() {
  PoolInfo info;
  info.pool_id = pool_id();
  const PrivateKey first = test_key(pool_seed), second = test_key(new_pool_seed);
  info.public_keys = {{first.public_key(), {}},
                      {second.public_key(), first.sign(rotation_message(info.pool_id, second.public_key()))}};
  info.software = "gradpool/0.1.0";
  info.minimum_agent = "0.1.0";
  info.time = now;
  return info;
}

Enrolment enrolment() {
  const PrivateKey old_key = test_key(rig_seed);
  const PublicKey new_key = test_key(new_rig_seed).public_key();
  return {"alice", "2f6c0d9a41b3", "rig-1", "gradminer/0.1.0",
          PreviousKey{old_key.public_key(), old_key.sign(rotation_message(pool_id(), new_key))}};
}

LeaseRequest lease_request() {
  LeaseRequest request;
  request.request_id = "000102030405060708090a0b0c0d0e0f";
  request.instance = "f0e0d0c0b0a090807060504030201000";
  request.agent = "gradminer/0.1.0";
  request.profiles = {"exact-fp32/1"};
  request.codecs = {"fp32", "int4"};
  request.kinds = {"train", "evaluate"};
  request.memory_bytes = 4'000'000'000;
  request.flops = 2.5e10;
  request.held = {{"kjv", 11}};
  request.leases = {"ffeeddccbbaa99887766554433221100"};
  return request;
}

LeaseAnswer lease_answer() { return {Lease{"00112233445566778899aabbccddeeff", 3, 60, 900, train_unit()}, {}}; }

LeaseAnswer no_lease_answer() { return {{}, NoLease{"nothing_to_do", "every unit of the round is out", 5}}; }

Submission submission() {
  Submission submission;
  submission.lease = lease_answer().lease->lease;
  submission.unit = train_unit().name;
  submission.attempt = 3;
  submission.result = {digest_of("result"), 20'120};
  submission.segments_root = digest_of("segments");
  submission.loss = 2.5078125f;
  submission.tokens = train_unit().tokens;
  submission.seconds = 1.25;
  return submission;
}

Submission diverged_submission() {
  Submission diverged;
  diverged.lease = lease_answer().lease->lease;
  diverged.unit = train_unit().name;
  diverged.attempt = 3;
  diverged.diverged = true;
  diverged.tensor = "transformer.h.0.attn.c_attn.weight";
  diverged.step = 2;
  return diverged;
}

Receipt receipt() {
  Receipt receipt;
  receipt.pool_id = pool_id();
  receipt.job = "kjv";
  receipt.unit = "kjv.12.t1";
  receipt.account = "alice";
  receipt.round = 12;
  receipt.attempt = 3;
  receipt.tokens = train_unit().tokens;
  receipt.price = train_unit().price;
  receipt.rig = test_key(rig_seed).public_key();
  receipt.result = digest_of("result");
  receipt.segments_root = digest_of("segments");
  receipt.time = now;
  return receipt;
}

Settlement settlement() {
  Settlement settlement;
  settlement.pool_id = pool_id();
  settlement.sequence = 41;
  settlement.attempt = 3;
  settlement.amount = receipt().price;
  settlement.receipt = sha256(std::string_view(to_canonical(receipt())));
  settlement.account = "alice";
  settlement.unit = "kjv.12.t1";
  settlement.reason = "the check agreed";
  settlement.rig = receipt().rig;
  settlement.time = now + 60;
  return settlement;
}

RoundRecord round_record() {
  RoundRecord record;
  record.pool_id = pool_id();
  record.job = "kjv";
  record.round = 12;
  record.tokens = 2 * train_unit().tokens;
  record.job_digest = sha256(std::string_view(to_canonical(job())));
  record.previous = digest_of("record 11");
  const std::vector<Digest> results = {digest_of("result 0"), digest_of("result")};
  record.units_root = merkle_root(std::span<const Digest>(results));
  record.weights = digest_of("weights 13");
  record.state = digest_of("state 13");
  record.update = {digest_of("update 12"), 20'120};
  record.checkpoint = {10, {digest_of("weights 10"), 143'576}};
  record.time = now + 30;
  return record;
}

}  // namespace protocol::samples
