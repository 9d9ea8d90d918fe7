// Runs what NVIDIA's compiler makes of kernels/cuda/, as PTX, on the CPU: the same code that a driver compiles further.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "../simt/launcher.h"
#include "program.h"

namespace ptx {

// The kernels of PTX files; of those of one name, the first. Memory is that of the SimtLauncher. launch() throws
// simt::Failure for a barrier or an operation of a warp that not all of its threads come to, an address that is not
// aligned or lies outside the block's shared memory or the arguments, and a thread that has not waited for its copies.
// Shared memory is filled with NaN before each block, registers before each launch.
class PtxLauncher : public simt::SimtLauncher {
 public:
  explicit PtxLauncher(const std::vector<std::filesystem::path>& files);

  bool has(const char* kernel) override { return texts_.contains(kernel); }
  void launch(const kernels::cuda::Launch& launch) override;

 private:
  std::map<std::string, std::string> texts_;
  std::map<std::string, Kernel> kernels_;  // those that have been launched
};

}  // namespace ptx
