#include "health_log.h"

#include <chrono>

#include "card_health.h"

namespace agent {
namespace {

// Looks in a row. A card also says that it is slowed down at moments when its clocks change, and one near its limit
// comes and goes.
constexpr int looks_until_slowed = 2, looks_until_recovered = 5;

std::string bus_id_of(const std::string& card) { return card.substr(0, card.find(' ')); }

// "61 C, fan 45 %, 118 of 120 W, 1708 MHz, memory 4006 MHz": what is known.
std::string values_text(const kernels::CardHealth& health) {
  const HealthTexts texts = texts_of(health);
  std::vector<std::string> values;
  const auto add = [&](const char* what, const std::string& text) {
    if (!text.empty()) values.push_back(what + text);
  };
  add("", texts.temperature);
  add("fan ", texts.fan);
  add("", texts.power);
  add("", texts.clock);
  add("memory ", texts.memory_clock);
  return comma_list(values);
}

}  // namespace

HealthLog::HealthLog(OpenSensors open, double seconds, Log& log)
    : open_(std::move(open)), seconds_(seconds), log_(log) {}

HealthLog::~HealthLog() {
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
  }
  ends_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void HealthLog::begin(const std::string& card) {
  if (!open_) return;
  const std::lock_guard lock(mutex_);
  if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
  computing_.insert(card);
}

void HealthLog::end(const std::string& card) {
  const std::lock_guard lock(mutex_);
  computing_.erase(card);
}

void HealthLog::run() {
  kernels::CardSensors sensors;
  try {
    sensors = open_();
  } catch (const std::exception& error) {
    log_.write(Level::info, "no_nvml", std::string(error.what()) + without_sensors);
    return;
  }
  while (wait()) {
    for (const std::string& card : computing()) {
      if (computes(card)) look(card, sensors.read(bus_id_of(card)));
    }
  }
}

bool HealthLog::wait() {
  std::unique_lock lock(mutex_);
  return !ends_.wait_for(lock, std::chrono::duration<double>(seconds_), [this] { return ended_; });
}

std::vector<std::string> HealthLog::computing() {
  const std::lock_guard lock(mutex_);
  return {computing_.begin(), computing_.end()};
}

// Meanwhile it may have been left out.
bool HealthLog::computes(const std::string& card) {
  const std::lock_guard lock(mutex_);
  return !ended_ && computing_.contains(card);
}

void HealthLog::look(const std::string& card, const kernels::CardHealth& health) {
  nlohmann::ordered_json fields{{"card", card}};
  fields.update(health_json(health));
  if (!health.problem.empty() && seen_[card].problems.insert(health.problem).second) {
    log_.write(Level::warning, "health_failed", health.problem + "; what this card does not tell is not shown", fields);
  }
  if (const std::string values = values_text(health); !values.empty()) {
    const std::string by = health.slowdown ? comma_list(names_of(*health.slowdown)) : "";
    log_.write(Level::info, "health", card + ": " + values + (by.empty() ? "" : ", slowed by " + by), fields);
  }
  if (health.slowdown) judge(card, health, fields);
}

// A limit of power that somebody has set is no reason to warn.
void HealthLog::judge(const std::string& card, const kernels::CardHealth& health,
                      const nlohmann::ordered_json& fields) {
  kernels::Slowdown by = *health.slowdown;
  by.power_limit = false;
  const std::string reasons = comma_list(names_of(by));
  Seen& seen = seen_[card];
  seen.looks = reasons.empty() == seen.slowed ? seen.looks + 1 : 0;
  if (seen.looks < (seen.slowed ? looks_until_recovered : looks_until_slowed)) return;
  seen.slowed = !seen.slowed;
  seen.looks = 0;
  if (seen.slowed) {
    log_.write(Level::warning, "card_slowed", card + " is slowed down by " + reasons + ": " + values_text(health),
               fields);
  } else {
    log_.write(Level::good, "card_recovered", card + " is not slowed down any more: " + values_text(health), fields);
  }
}

}  // namespace agent
