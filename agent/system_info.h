// What this machine has: CPU, memory, disk.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace agent {

std::string cpu_name();
// Cores that this process may use (affinity and cgroup quota are the kernel's; this is the affinity mask).
size_t usable_cores();
// SIMD paths that run here, fastest first: "avx512vnni", "avx512", "avx2", "portable".
std::vector<std::string> simd_paths();

uint64_t memory_total();
// Bytes that can be allocated without swapping: MemAvailable, cut to what the cgroup (v2) leaves.
uint64_t memory_available();
// What this process's cgroup (v2) and those above it may allocate yet, the cache of files given up; the largest number
// where none has a limit. membership: the file that names it; root: of the file system of cgroups.
uint64_t cgroup_room(const std::filesystem::path& membership = "/proc/self/cgroup",
                     const std::filesystem::path& root = "/sys/fs/cgroup");
// Bytes free for this user on the file system of an existing folder. Throws Failure(disk).
uint64_t disk_free(const std::filesystem::path& folder);

// The version of NVIDIA's kernel module, "535.104.05"; empty where it is not loaded.
std::string nvidia_driver_version();

// Lanes of a device's PCIe link; 0: unknown. A riser leaves 1 of 16.
struct PcieLanes {
  unsigned now = 0, most = 0;
};
// bus_id: "0000:01:00.0". devices: the kernel's folder of them.
PcieLanes pcie_lanes(std::string bus_id, const std::filesystem::path& devices = "/sys/bus/pci/devices");

// "1.4 GB", "312 kB", for people.
std::string human_bytes(double bytes);

}  // namespace agent
