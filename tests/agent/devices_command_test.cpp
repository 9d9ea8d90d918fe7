// `gradminer devices`: the program finds a driver without cards (tests/fakes/fake_cuda.h) where it finds NVIDIA's.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "system_info.h"
#include "temporary_folder.h"

namespace agent {
namespace {

// At places where no machine has one.
constexpr char two_cards[] =
    "FFFE:0A:00.0,8.6,25447170048,NVIDIA GeForce RTX 3090;FFFE:02:00.0,6.1,6371475456,GTX 1060";

// What their sensors say: all of it, and as a card tells that is cooled by the case.
constexpr char two_healths[] = "FFFE:02:00.0,61,45,118400,120000,1708,4006,4;FFFE:0A:00.0,90,-,210000,-,900,9501,68";

std::string devices(const std::string& environment, const std::string& arguments = "",
                    const std::string& program = GRADMINER_FOR_CARDS) {
  const fakes::TemporaryFolder folder;
  const std::string out = folder.path / "out";
  const std::string command = environment + " " + program + " devices " + arguments + " >" + out;
  EXPECT_EQ(std::system(command.c_str()), 0) << command;
  std::ostringstream text;
  text << std::ifstream(out).rdbuf();
  return text.str();
}

std::string with(const std::string& cards, const std::string& fail = "") {
  return "LD_LIBRARY_PATH=" FAKE_CUDA_FOLDER ":" FAKE_NCCL_FOLDER ":" FAKE_CUBLASLT_FOLDER ":" FAKE_NVML_FOLDER
         " FAKE_CUDA_CARDS='" +
         cards + "' FAKE_NVML_CARDS='" + two_healths + "' FAKE_CUDA_FAIL=" + fail;
}

// What follows the lines of the CPU.
std::string cuda_part(const std::string& text) {
  const size_t begin = text.find("\ncuda ");
  return begin == std::string::npos ? "nothing of CUDA in: " + text : text.substr(begin + 1);
}

// Of a driver that this machine may have, whatever answers in its place here.
std::string version() { return nvidia_driver_version().empty() ? "" : nvidia_driver_version() + " "; }

// Of the compiled code; the code of the tests, where they are not compiled, is for 6.0.
std::string int8(const char* compiled) { return CUDA_COMPILED ? compiled : "fp32"; }
std::string code(const char* compiled) { return CUDA_COMPILED ? compiled : "compute_60"; }
std::string through(const char* compiled) {
  return "; through " + code(compiled) + (CUDA_COMPILED ? "" : ", compiled by the driver") + "\n";
}

TEST(Devices, CardsByBus) {
  EXPECT_EQ(
      cuda_part(devices(with(two_cards))),
      "cuda driver " + version() + "for CUDA 12.4\n" +
          "     device  bus id         name                                 capability memory   PCIe lanes computes\n"
          "     cuda:0  FFFE:02:00.0   GTX 1060                             6.1        6.4 GB   -          exact "
          "profiles, int8 by " +
          int8("dp4a") + through("sm_61") +
          "     cuda:1  FFFE:0A:00.0   NVIDIA GeForce RTX 3090              8.6        25.4 GB  -          exact "
          "profiles, int8 by " +
          int8("tensor cores") + (CUDA_COMPILED ? "; fast in bf16" : "") + through("sm_86") +
          "nvml 12.535.104.05: what the cards' sensors say\n"
          "     device  temperature fan    power          clock     memory    slowed by\n"
          "     cuda:0  61 C        45 %   118 of 120 W   1708 MHz  4006 MHz  power limit\n"
          "     cuda:1  90 C        -      210 W          900 MHz   9501 MHz  heat\n"
          "nccl 2.21.5: cards pass results to each other\n" +
          (CUDA_COMPILED ? "cublaslt 12.9.3: fast goes through it, int8 where a trial at the start is faster\n" : ""));
}

TEST(Devices, CardsByBusAsJson) {
  const nlohmann::json answer = nlohmann::json::parse(devices(with(two_cards), "--json"));
  ASSERT_EQ(answer["devices"].size(), 1u) << "the CPU";
  EXPECT_EQ(answer["devices"][0]["profiles"], nlohmann::json({"exact-fp32/1", "exact-int8/1", "exact-int8-head/1"}));
  EXPECT_EQ(answer["cuda"]["driver"], "12.4");
  nlohmann::json expected = nlohmann::json::parse(R"([
      {"device": "cuda:0", "bus_id": "FFFE:02:00.0", "name": "GTX 1060", "compute_capability": "6.1",
       "memory_bytes": 6371475456, "computes": true},
      {"device": "cuda:1", "bus_id": "FFFE:0A:00.0", "name": "NVIDIA GeForce RTX 3090", "compute_capability": "8.6",
       "memory_bytes": 25447170048, "computes": true}])");
  for (nlohmann::json& card : expected) card["profiles"] = {"exact-fp32/1", "exact-int8/1", "exact-int8-head/1"};
  expected[0]["code"] = code("sm_61"), expected[1]["code"] = code("sm_86");
  expected[0]["int8"] = int8("dp4a");
  expected[1]["int8"] = int8("tensor cores");
  if (CUDA_COMPILED) {
    expected[1]["profiles"].push_back("fast/1");
    expected[1]["fast"] = "bf16";
  }
  expected[0]["health"] = {{"temperature_celsius", 61},   {"fan_percent", 45}, {"power_watts", 118.4},
                           {"power_limit_watts", 120.0},  {"clock_mhz", 1708}, {"memory_clock_mhz", 4006},
                           {"slowed_by", {"power limit"}}};
  expected[1]["health"] = {{"temperature_celsius", 90},
                           {"power_watts", 210.0},
                           {"clock_mhz", 900},
                           {"memory_clock_mhz", 9501},
                           {"slowed_by", {"heat"}}};
  EXPECT_EQ(answer["cuda"]["cards"], expected);
  EXPECT_EQ(answer["cuda"]["nvml"], (nlohmann::json{{"version", "12.535.104.05"}}));
  EXPECT_EQ(answer["cuda"]["nccl"], (nlohmann::json{{"version", "2.21.5"}}));
  if (CUDA_COMPILED) {
    EXPECT_EQ(answer["cuda"]["cublaslt"], (nlohmann::json{{"version", "12.9.3"}}));
  }
}

// What it costs is said, to whom it concerns.
TEST(Devices, AnNcclThatIsTooOld) {
  const std::string old = "FAKE_NCCL_VERSION=2604 " + with(two_cards);
  const std::string problem =
      "NCCL is too old: it is 2.6.4, needed is 2.7.0 or later; results pass through the host's memory, every card's as "
      "a whole";
  const std::string text = devices(old);
  EXPECT_NE(text.find("\nnccl " + problem + "\n"), std::string::npos) << text;
  EXPECT_EQ(nlohmann::json::parse(devices(old, "--json"))["cuda"]["nccl"], (nlohmann::json{{"problem", problem}}));
  EXPECT_EQ(devices("FAKE_NCCL_VERSION=2604 " + with("FFFE:02:00.0,6.1,6371475456,GTX 1060")).find("nccl"),
            std::string::npos);
}

// Before the folders of `environment`: a library that is none, whatever this machine has.
std::string with_broken(const std::string& library, const fakes::TemporaryFolder& folder,
                        const std::string& environment) {
  fakes::write_file(folder.path / library, "no library");
  const size_t path = environment.find("LD_LIBRARY_PATH=") + std::string("LD_LIBRARY_PATH=").size();
  return environment.substr(0, path) + folder.path.string() + ":" + environment.substr(path);
}

TEST(Devices, WithoutNvml) {
  const fakes::TemporaryFolder folder;
  const std::string without = with_broken("libnvidia-ml.so.1", folder, with(two_cards));
  const std::string text = devices(without);
  const size_t line = text.find("\nnvml no NVML (");
  EXPECT_NE(line, std::string::npos) << text;
  EXPECT_NE(text.find("); temperature, fan, power, clocks and slowdowns of cards are not shown\nnccl ", line),
            std::string::npos)
      << text;
  const nlohmann::json answer = nlohmann::json::parse(devices(without, "--json"))["cuda"];
  EXPECT_EQ(answer["nvml"].items().begin().key(), "problem");
  EXPECT_FALSE(answer["cards"][0].contains("health"));
}

TEST(Devices, SensorsThatFail) {
  const std::string lost = with(two_cards) +
                           " FAKE_NVML_CARDS='FFFE:02:00.0,61,!999,-,120000,1708,-,-;"
                           "FFFE:0A:00.0,!15,!15,!15,!15,!15,!15,!15'";
  const std::string text = devices(lost);
  EXPECT_NE(text.find("     cuda:0  61 C        -      -              1708 MHz  -         -\n"
                      "             FFFE:02:00.0: nvmlDeviceGetFanSpeed: Unknown Error (999)\n"
                      "     cuda:1  -           -      -              -         -         -\n"
                      "             FFFE:0A:00.0: nvmlDeviceGetTemperature: GPU is lost (15)\n"),
            std::string::npos)
      << text;
  const nlohmann::json cards = nlohmann::json::parse(devices(lost, "--json"))["cuda"]["cards"];
  EXPECT_EQ(cards[0]["health"]["problem"], "FFFE:02:00.0: nvmlDeviceGetFanSpeed: Unknown Error (999)");
  EXPECT_EQ(cards[0]["health"]["clock_mhz"], 1708);
  EXPECT_EQ(cards[1]["health"],
            (nlohmann::json{{"problem", "FFFE:0A:00.0: nvmlDeviceGetTemperature: GPU is lost (15)"}}));
}

// A driver for CUDA 11 takes no version 12, and a card without tensor cores none at all.
TEST(Devices, ACublasLtThatTheDriverDoesNotTake) {
  if (!CUDA_COMPILED) GTEST_SKIP() << "the code of the tests is for 6.0";
  const fakes::TemporaryFolder folder;
  const std::string environment =
      with_broken("libcublasLt.so.11", folder, "FAKE_CUDA_VERSION=11040 " + with(two_cards));
  const std::string text = devices(environment);
  EXPECT_NE(text.find("\ncublaslt no cuBLASLt ("), std::string::npos) << text;
  EXPECT_NE(text.find("); own kernels multiply, what that costs is not measured yet\n"), std::string::npos) << text;
  const nlohmann::json answer = nlohmann::json::parse(devices(environment, "--json"));
  EXPECT_EQ(answer["cuda"]["cublaslt"].items().begin().key(), "problem");
  EXPECT_EQ(devices(with("FFFE:02:00.0,6.1,6371475456,GTX 1060")).find("cublaslt"), std::string::npos);
}

// Of 7.5, which has no bf16, and of 7.0, for which there are no kernels of `fast`.
TEST(Devices, OlderTensorCores) {
  if (!CUDA_COMPILED) GTEST_SKIP() << "the code of the tests is for 6.0";
  const std::string text = devices(with("FFFE:02:00.0,7.5,8000000000,RTX 2080;FFFE:0A:00.0,7.0,16000000000,V100"));
  EXPECT_NE(
      text.find("exact profiles, int8 by tensor cores or dp4a; fast in fp16 if it has tensor cores; through sm_75\n"),
      std::string::npos)
      << text;
  EXPECT_NE(text.find("exact profiles, int8 by dp4a; through sm_70\n"), std::string::npos) << text;
  const nlohmann::json json = nlohmann::json::parse(devices(with("FFFE:02:00.0,7.5,6000000000,GTX 1660"), "--json"));
  EXPECT_EQ(json["cuda"]["cards"][0]["profiles"].size(), 3u) << "of a GTX 16xx fast is not known, and not there";
}

// Of a lower minor, and PTX.
TEST(Devices, CodeThatIsNotForTheCardAlone) {
  if (!CUDA_COMPILED) GTEST_SKIP() << "the code of the tests is PTX for 6.0";
  const std::string environment = with("FFFE:02:00.0,8.7,8000000000,Orin;FFFE:0A:00.0,13.0,16000000000,Future");
  const std::string text = devices(environment);
  EXPECT_NE(text.find("fast in bf16; through sm_86\n"), std::string::npos) << text;
  EXPECT_NE(text.find("fast in fp16 if it has tensor cores; through compute_75, compiled by the driver\n"),
            std::string::npos)
      << text;
  const nlohmann::json cards = nlohmann::json::parse(devices(environment, "--json"))["cuda"]["cards"];
  EXPECT_EQ(cards[0]["code"], "sm_86");
  EXPECT_EQ(cards[1]["code"], "compute_75");
}

// A card from before 6.0.
TEST(Devices, ACardWithoutCode) {
  const std::string text = devices(with("FFFE:02:00.0,5.2,4000000000,GTX 960"));
  EXPECT_NE(text.find("5.2        4.0 GB   -          no: no code for compute capability 5.2; this program has "),
            std::string::npos)
      << text;
}

TEST(Devices, AProgramWithoutCuda) {
  constexpr char card[] = "FFFE:02:00.0,8.6,8000000000,RTX 3070";
  const std::string reason =
      "this program was built without CUDA code (GRADMINER_CUDA); build it with GRADMINER_CUDA=ON";
  const std::string text = devices(with(card), "", GRADMINER_WITHOUT_CUDA);
  EXPECT_NE(text.find(" no: " + reason + "\n"), std::string::npos) << text;
  const nlohmann::json answer = nlohmann::json::parse(devices(with(card), "--json", GRADMINER_WITHOUT_CUDA));
  EXPECT_EQ(answer["cuda"]["cards"][0]["computes"], false);
  EXPECT_EQ(answer["cuda"]["cards"][0]["reason"], reason);
}

TEST(Devices, ANameThatIsNotUtf8) {
  const std::string text = devices(with("FFFE:02:00.0,8.6,8000000000,RTX \xFF 3070"), "--json");
  ASSERT_TRUE(nlohmann::json::accept(text)) << text;
  EXPECT_EQ(nlohmann::json::parse(text)["cuda"]["cards"][0]["name"], "RTX \uFFFD 3070");
}

TEST(Devices, ACardThatFails) {
  const std::string fails = with(two_cards, "cuDeviceGetName,0,2");
  const std::string problem = "FFFE:0A:00.0: cuDeviceGetName: out of memory (CUDA_ERROR_OUT_OF_MEMORY, 2)";
  const std::string text = devices(fails);
  EXPECT_NE(text.find("\n     cuda:0  FFFE:02:00.0   GTX 1060 "), std::string::npos) << text;
  EXPECT_NE(text.find("\n     cuda:1  " + problem + "\n"), std::string::npos) << text;
  const nlohmann::json card = nlohmann::json::parse(devices(fails, "--json"))["cuda"]["cards"][1];
  EXPECT_EQ(card, (nlohmann::json{{"device", "cuda:1"}, {"bus_id", "FFFE:0A:00.0"}, {"problem", problem}}));
}

TEST(Devices, NoCard) {
  EXPECT_EQ(cuda_part(devices(with(""))), "cuda driver " + version() + "for CUDA 12.4; no card\n");
}

TEST(Devices, LanesOfAPcieLink) {
  const fakes::TemporaryFolder folder;
  std::filesystem::create_directory(folder.path / "0000:0a:00.0");
  fakes::write_file(folder.path / "0000:0a:00.0/current_link_width", "1\n");
  fakes::write_file(folder.path / "0000:0a:00.0/max_link_width", "16\n");
  const PcieLanes lanes = pcie_lanes("0000:0A:00.0", folder.path);
  EXPECT_EQ(lanes.now, 1u);
  EXPECT_EQ(lanes.most, 16u);
  EXPECT_EQ(pcie_lanes("0000:0B:00.0", folder.path).now, 0u);
}

TEST(Devices, ADriverThatIsTooOld) {
  const std::string problem =
      "the CUDA driver is too old: it supports CUDA 10.2, needed is CUDA 11.0 or later; install NVIDIA's driver, 450 "
      "or later";
  const std::string old = "LD_LIBRARY_PATH=" FAKE_CUDA_10_FOLDER;
  EXPECT_EQ(cuda_part(devices(old)), "cuda " + problem + "\n");
  EXPECT_EQ(nlohmann::json::parse(devices(old, "--json"))["cuda"], (nlohmann::json{{"problem", problem}}));
}

// What is found in its place cannot be opened: as on a machine without the driver, whatever this one has.
TEST(Devices, NoDriver) {
  const fakes::TemporaryFolder folder;
  fakes::write_file(folder.path / "libcuda.so.1", "no library");
  const std::string text = cuda_part(devices("LD_LIBRARY_PATH=" + folder.path.string()));
  EXPECT_EQ(text.rfind("cuda no CUDA driver (", 0), 0u) << text;
  EXPECT_NE(text.find("); cards need NVIDIA's driver, 450 or later\n"), std::string::npos) << text;
}

}  // namespace
}  // namespace agent
