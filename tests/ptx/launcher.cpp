// The launcher of tests/simt, for tests that run what NVIDIA's compilers make of the kernels instead of their sources.
// It has the kernels of all architectures. Those that more than one has are of 7.5, by NVRTC 11.8, where threads run
// upward, and of 9.0, by NVRTC 12.9, where they would run downward.
#include "../simt/launcher.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>

#include "grid.h"

namespace simt {
namespace {

class Code {
 public:
  explicit Code(const std::vector<std::filesystem::path>& folders) {
    for (const std::filesystem::path& folder : folders) {
      for (const auto& entry : std::filesystem::directory_iterator(folder)) {
        if (entry.path().extension() == ".ptx") add(entry.path());
      }
    }
  }

  bool has(const std::string& kernel) const { return texts_.contains(kernel); }

  ptx::LoadedKernel& kernel(const std::string& name) {
    const auto text = texts_.find(name);
    if (text == texts_.end()) throw std::invalid_argument("launch of " + name + ": no kernel of this name");
    std::unique_ptr<ptx::LoadedKernel>& kernel = kernels_[name];
    if (!kernel) kernel = std::make_unique<ptx::LoadedKernel>(ptx::read_kernel(text->second));
    return *kernel;
  }

 private:
  // Of kernels of one name, the first stays.
  void add(const std::filesystem::path& path) {
    std::ifstream file(path);
    const std::string text(std::istreambuf_iterator<char>(file), {});
    if (!file) throw std::runtime_error(path.string() + " cannot be read");
    texts_.merge(ptx::kernel_texts(text.substr(0, text.find('\0'))));
  }

  std::map<std::string, std::string> texts_;
  std::map<std::string, std::unique_ptr<ptx::LoadedKernel>> kernels_;  // those that have been launched
};

Code& code(Order order) {
  if (order == Order::downward) {
    static Code of_12({PTX_90, PTX_75, PTX_60});
    return of_12;
  }
  static Code of_11({PTX_75, PTX_80, PTX_60});
  return of_11;
}

}  // namespace

bool SimtLauncher::has(const char* kernel) { return code(order_).has(kernel); }

void SimtLauncher::launch(const kernels::cuda::Launch& launch) {
  static std::mutex one_at_a_time;
  const std::lock_guard lock(one_at_a_time);
  code(order_).kernel(launch.kernel).run(launch);
}

}  // namespace simt
