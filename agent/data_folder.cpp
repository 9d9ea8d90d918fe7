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

// A fresh key in new.pem; its lasting name never shows half a key.
std::filesystem::path make_key(const std::filesystem::path& folder) {
  const std::filesystem::path fresh = folder / "new.pem";
  std::filesystem::remove(fresh);
  protocol::PrivateKey::generate().save_new(fresh);
  return fresh;
}

// What goes wrong with keys as a Failure.
template <class Action>
RigKeys with_key(const char* what, Action&& action) {
  try {
    return action();
  } catch (const Failure&) {
    throw;
  } catch (const std::system_error& error) {
    throw system_failure(error);
  } catch (const std::runtime_error& error) {
    throw Failure(Exit::input, std::string("the rig's key") + what + ": " + error.what());
  }
}

}  // namespace

DataFolder::DataFolder(const std::filesystem::path& folder)
    : path_(made(folder)), lock_(folder / "lock", O_RDWR | O_CREAT) {
  if (::flock(lock_.descriptor(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) throw disk_failure("lock", folder / "lock", errno);
    throw Failure(Exit::input, "another gradminer uses the data folder " + folder.string() +
                                   "; stop it, or give this one its own folder with --data");
  }
  sync_folder(folder);
  for (const char* ours : {"pools", "cache", "outbox", "receipts"}) {  // a file system's root has lost+found as well
    if (std::filesystem::is_directory(folder / ours)) sync_folders(folder / ours);
  }
}

RigKeys load_or_make_keys(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / "key.pem", previous = folder / "previous.pem";
  make_folders(folder);
  return with_key("", [&] {
    if (!std::filesystem::exists(file)) {
      std::filesystem::rename(make_key(folder), file);
      sync_folder(folder);
    }
    RigKeys keys{protocol::PrivateKey::load(file), std::nullopt};
    if (std::filesystem::exists(previous)) keys.previous = protocol::PrivateKey::load(previous);
    return keys;
  });
}

RigKeys change_key(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / "key.pem", previous = folder / "previous.pem";
  load_or_make_keys(folder);
  return with_key(" was not changed", [&] {
    const std::filesystem::path fresh = make_key(folder);
    std::filesystem::remove(previous);
    std::filesystem::create_hard_link(file, previous);
    std::filesystem::rename(fresh, file);
    sync_folder(folder);
    return load_or_make_keys(folder);
  });
}

}  // namespace agent
