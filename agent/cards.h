// NVIDIA's cards as the agent uses them. They are numbered from 0 in the order of their PCI bus ids, as `gradminer
// devices` lists them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "config.h"
#include "kernels/cuda_cards.h"
#include "lane_worker.h"
#include "log.h"

namespace agent {

// What a card's number is called: "cuda:0".
std::string device_name(size_t number);

struct OpenedCard {
  std::unique_ptr<kernels::Ops> ops;
  std::string bus_id;
};
// `device`: "cuda:1", or "cuda", the first card that works. Throws Failure(usage) for another word, Failure(input) that
// says why the card does not compute.
OpenedCard open_cuda_device(const std::string& device);

// A card that `run` may compute with.
struct RigCard {
  std::string name;  // begins with the bus id
  LaneWorker::MakeOps make_ops;
  double peak_flops = 0;  // see CudaCard
  // The name of the unit that its LaneWorker computes, for what its Ops says meanwhile.
  std::shared_ptr<std::string> unit = std::make_shared<std::string>();
};

// The cards that the configuration names, or all, which the driver does not call broken; by bus id. The log tells what
// is missing.
std::vector<RigCard> rig_cards(const Config& config, Log& log);

// A library of NVIDIA that is opened where it is present: its version, or what is missing and what that costs.
struct LibraryState {
  std::string version, problem;
};
LibraryState ask_nccl();      // by which cards pass results to each other
LibraryState ask_cublaslt();  // by which cards with tensor cores multiply

// Whether cuBLASLt has work on a card.
bool has_tensor_cores(const kernels::CudaCard& card);

// Of the free memory of a card, what plans may take: the driver wants some as well.
uint64_t plannable_bytes(kernels::Ops& card);

}  // namespace agent
