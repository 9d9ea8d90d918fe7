#include "bench/nccl_check.h"

#include <cstring>
#include <stdexcept>
#include <vector>

#include "kernels/card_links.h"

namespace kernels::bench {

std::string check_nccl(const CudaCard& card) {
  const std::string version = nccl_version();
  std::vector<uint32_t> sent(1 << 20), arrived(sent.size());
  for (size_t i = 0; i < sent.size(); ++i) sent[i] = static_cast<uint32_t>(i) * 2'654'435'761u;  // NaNs among them
  const size_t bytes = sent.size() * sizeof(uint32_t);
  const std::unique_ptr<Ops> ops = make_cuda_ops(card);
  Ops* const only = ops.get();
  auto* const memory = static_cast<float*>(ops->allocate(2 * bytes));
  ops->write(memory, sent.data(), bytes);
  {
    const std::unique_ptr<CardLinks> links = make_nccl_links({&only, 1});
    const CardLinks::Transfer itself{0, 0, memory, memory + sent.size(), sent.size()};
    links->start({&itself, 1});
    links->wait();
  }
  ops->read(arrived.data(), memory + sent.size(), bytes);
  ops->free(memory);
  if (arrived != sent) throw std::runtime_error("NCCL " + version + ": other bits arrived than were sent");
  return version;
}

}  // namespace kernels::bench
