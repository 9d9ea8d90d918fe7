#include "data_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>

namespace agent {
namespace {

std::filesystem::path made(const std::filesystem::path& folder) {
  make_folders(folder);
  return folder;
}

}  // namespace

DataFolder::DataFolder(const std::filesystem::path& folder)
    : path_(made(folder)), lock_(folder / "lock", O_RDWR | O_CREAT) {
  if (::flock(lock_.descriptor(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) throw disk_failure("lock", folder / "lock", errno);
    throw Failure(Exit::input, "another gradminer uses the data folder " + folder.string() +
                                   "; stop it, or give this one its own folder with --data");
  }
  sync_folders(folder);
}

RigKeys load_or_make_keys(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / "key.pem", previous = folder / "previous.pem";
  make_folders(folder);
  try {
    if (!std::filesystem::exists(file)) protocol::PrivateKey::generate().save_new(file);
    RigKeys keys{protocol::PrivateKey::load(file), std::nullopt};
    if (std::filesystem::exists(previous)) keys.previous = protocol::PrivateKey::load(previous);
    return keys;
  } catch (const std::runtime_error& error) {
    throw Failure(Exit::input, std::string("the rig's key: ") + error.what());
  }
}

RigKeys change_key(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / "key.pem", previous = folder / "previous.pem", fresh = folder / "new.pem";
  load_or_make_keys(folder);
  try {
    std::filesystem::remove(fresh);
    protocol::PrivateKey::generate().save_new(fresh);
    std::filesystem::remove(previous);
    std::filesystem::create_hard_link(file, previous);
    std::filesystem::rename(fresh, file);
    sync_folder(folder);
  } catch (const std::runtime_error& error) {
    throw Failure(Exit::input, std::string("the rig's key was not changed: ") + error.what());
  }
  return load_or_make_keys(folder);
}

}  // namespace agent
