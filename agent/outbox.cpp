#include "outbox.h"

#include <fcntl.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "files.h"
#include "protocol/json.h"

namespace agent {
namespace fs = std::filesystem;
namespace {

constexpr const char* manifest = "submission.json";  // an item is whole while it has one

void write_synced(const fs::path& file, std::span<const uint8_t> bytes) {
  File out(file, O_WRONLY | O_CREAT | O_TRUNC);
  out.write(bytes);
  out.sync();
}

// {"digest": of the text, "submission": the text}: a changed byte must not become another claim.
std::string to_text(const protocol::Submission& submission) {
  const std::string text = protocol::to_json(submission).dump();
  return nlohmann::json{{"digest", protocol::to_hex(protocol::sha256(text))}, {"submission", text}}.dump();
}

protocol::Submission submission_from_file(const fs::path& file) {
  const nlohmann::json object = protocol::parse_object(read_text(file));
  const std::string text = protocol::string_member(object, "submission");
  if (protocol::to_hex(protocol::sha256(text)) != protocol::string_member(object, "digest")) {
    throw std::runtime_error(file.string() + " has another digest than it had");
  }
  return protocol::submission_from_json(protocol::parse_object(text));
}

}  // namespace

std::string Outbox::name_of(const protocol::Submission& submission) {
  return submission.unit + "." + std::to_string(submission.attempt);
}

OutboxItem Outbox::put(const protocol::Submission& submission, std::span<const uint8_t> blob) {
  const fs::path folder = folder_ / name_of(submission), making = folder_ / (".making-" + name_of(submission));
  try {
    fs::remove_all(making);
    make_folders(folder_);
    std::error_code error;
    fs::create_directory(making, error);
    if (error) throw disk_failure("create folder", making, error.value());
    if (!submission.diverged) write_synced(making / "result.blob", blob);
    const std::string text = to_text(submission);
    write_synced(making / manifest, {reinterpret_cast<const uint8_t*>(text.data()), text.size()});
    sync_folder(making);
    fs::remove_all(folder);  // the same attempt, computed again: the same bytes
    fs::rename(making, folder, error);
    if (error) throw disk_failure("rename", making, error.value());
    sync_folder(folder_);
  } catch (...) {
    std::error_code ignored;
    fs::remove_all(making, ignored);
    fs::remove_all(folder, ignored);
    throw;
  }
  return {folder, submission};
}

std::vector<std::string> Outbox::names() const {
  std::vector<std::pair<fs::file_time_type, std::string>> found;
  std::vector<fs::path> leftovers;
  if (!fs::is_directory(folder_)) return {};
  for (const auto& entry : fs::directory_iterator(folder_)) {
    const std::string name = entry.path().filename();
    if (name.starts_with('.') || !fs::exists(entry.path() / manifest)) {
      leftovers.push_back(entry.path());
    } else {
      found.emplace_back(fs::last_write_time(entry.path() / manifest), name);
    }
  }
  for (const fs::path& leftover : leftovers) fs::remove_all(leftover);
  std::sort(found.begin(), found.end());
  std::vector<std::string> names;
  for (auto& [time, name] : found) names.push_back(std::move(name));
  return names;
}

OutboxItem Outbox::load(const std::string& name) const try {
  OutboxItem item{folder_ / name, {}};
  item.submission = submission_from_file(item.folder / manifest);
  if (!item.submission.diverged) {
    if (!fs::exists(item.blob()) || protocol::sha256_of_file(item.blob()) != item.submission.result.digest) {
      throw std::runtime_error(item.blob().string() + " is gone, or has another digest than it had");
    }
  }
  return item;
} catch (const std::system_error& error) {
  throw system_failure(error);
}

void Outbox::remove(const std::string& name) {
  fs::remove(folder_ / name / manifest);
  std::error_code ignored;  // names() clears what stays
  fs::remove_all(folder_ / name, ignored);
}

uint64_t Outbox::bytes() const { return bytes_below(folder_); }

}  // namespace agent
