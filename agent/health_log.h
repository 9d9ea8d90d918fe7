// What the sensors of the rig's cards say, in the log: a line for each card that computes, and a warning where one is
// slowed down and nobody has set that.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "kernels/card_sensors.h"
#include "log.h"

namespace agent {

// Looks from a thread of its own, since a call of the library may take long, or not return. Its functions may be called
// by any thread.
class HealthLog {
 public:
  // Throws kernels::CudaError. Called once, by the thread.
  using OpenSensors = std::function<kernels::CardSensors()>;
  // open: empty: nothing is logged. seconds: between two looks. The log outlives it.
  HealthLog(OpenSensors open, double seconds, Log& log);
  HealthLog(const HealthLog&) = delete;
  HealthLog& operator=(const HealthLog&) = delete;
  // Waits for at most one call that hangs.
  ~HealthLog();

  // Whether a card computes; its name begins with its bus id. The first one starts the thread, which may fail:
  // std::system_error.
  void begin(const std::string& card);
  void end(const std::string& card);

 private:
  struct Seen {
    bool slowed = false;  // as the log says
    int looks = 0;        // in a row that say otherwise
    std::set<std::string> problems;
  };
  void run();
  bool wait();  // until the next look; false: it ends
  std::vector<std::string> computing();
  bool computes(const std::string& card);
  void look(const std::string& card, const kernels::CardHealth& health);
  void judge(const std::string& card, const kernels::CardHealth& health, const nlohmann::ordered_json& fields);

  const OpenSensors open_;
  const double seconds_;
  Log& log_;
  std::map<std::string, Seen> seen_;  // the thread's own
  std::mutex mutex_;                  // over what follows
  std::set<std::string> computing_;
  bool ended_ = false;
  std::condition_variable ends_;
  std::thread thread_;
};

}  // namespace agent
