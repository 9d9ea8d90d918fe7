#include "system_info.h"

#include <sched.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <limits>
#include <system_error>
#include <thread>

#include "exit.h"
#include "kernels/ops.h"

namespace agent {
namespace {

// The value behind "name:" in a file such as /proc/meminfo; empty when absent.
std::string field(const char* file, const std::string& name) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (line.compare(0, name.size(), name) != 0) continue;
    size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    size_t begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

uint64_t meminfo(const std::string& name) {
  std::string value = field("/proc/meminfo", name);
  return value.empty() ? 0 : std::stoull(value) * 1024;
}

// Bytes of files that the kernel holds for a cgroup until somebody needs the memory.
uint64_t file_cache(const std::filesystem::path& group) {
  std::ifstream statistics(group / "memory.stat");
  uint64_t bytes = 0, value = 0;
  for (std::string name; statistics >> name >> value;) {
    if (name == "inactive_file" || name == "active_file") bytes += value;
  }
  return bytes;
}

}  // namespace

std::string cpu_name() {
  std::string name = field("/proc/cpuinfo", "model name");
  return name.empty() ? "unknown CPU" : name;
}

size_t usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return static_cast<size_t>(CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

std::vector<std::string> simd_paths() {
  std::vector<std::string> paths;
  for (const kernels::Simd simd : kernels::usable_simd()) paths.push_back(kernels::name_of(simd));
  return paths;
}

uint64_t memory_total() { return meminfo("MemTotal"); }

uint64_t cgroup_room(const std::filesystem::path& membership, const std::filesystem::path& root) {
  uint64_t room = std::numeric_limits<uint64_t>::max();
  std::ifstream groups(membership);
  std::string line, group;
  while (std::getline(groups, line)) {
    if (line.compare(0, 3, "0::") == 0) group = root.string() + line.substr(3);
  }
  for (std::filesystem::path at = group; at.string().size() >= root.string().size(); at = at.parent_path()) {
    uint64_t limit = 0, used = 0;
    std::ifstream max(at / "memory.max"), current(at / "memory.current");
    if (!(max >> limit && current >> used)) continue;
    used -= std::min(used, file_cache(at));
    room = std::min(room, limit > used ? limit - used : 0);
  }
  return room;
}

uint64_t memory_available() { return std::min(meminfo("MemAvailable"), cgroup_room()); }

uint64_t disk_free(const std::filesystem::path& folder) {
  struct statvfs status {};
  if (statvfs(folder.c_str(), &status) != 0) {
    throw Failure(Exit::disk,
                  "cannot read the free space of " + folder.string() + ": " + std::generic_category().message(errno));
  }
  return static_cast<uint64_t>(status.f_bavail) * status.f_frsize;
}

std::string nvidia_driver_version() {
  std::string version;
  std::ifstream("/sys/module/nvidia/version") >> version;
  return version;
}

PcieLanes pcie_lanes(std::string bus_id, const std::filesystem::path& devices) {
  std::ranges::transform(bus_id, bus_id.begin(), [](unsigned char c) { return std::tolower(c); });
  const auto read = [&](const char* name) {
    unsigned lanes = 0;
    std::ifstream(devices / bus_id / name) >> lanes;
    return lanes;
  };
  return {read("current_link_width"), read("max_link_width")};
}

std::string human_bytes(double bytes) {
  const char* units[] = {"B", "kB", "MB", "GB", "TB"};
  size_t unit = 0;
  while (bytes >= 1000 && unit < 4) bytes /= 1000, ++unit;
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 || bytes >= 100 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
  return text;
}

}  // namespace agent
