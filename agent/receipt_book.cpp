#include "receipt_book.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <ctime>

#include "files.h"

namespace agent {
namespace fs = std::filesystem;
namespace {

constexpr const char* receipt_ending = ".receipt.json";

fs::path signature_of(const fs::path& document) { return fs::path(document).replace_extension(".sig"); }

// The signature first: a document is whole once it is there.
void write_document(const fs::path& file, const protocol::SignedDocument& document) {
  make_folders(file.parent_path());
  write_durably(signature_of(file),
                {reinterpret_cast<const char*>(document.signature.data()), document.signature.size()});
  write_durably(file, document.document);
}

protocol::SignedDocument read_document(const fs::path& file) {
  protocol::SignedDocument document;
  document.document = read_text(file);
  const std::string signature = read_text(signature_of(file));
  if (signature.size() == document.signature.size()) {  // a torn one stays empty, which is no signature
    std::copy(signature.begin(), signature.end(), document.signature.begin());
  }
  return document;
}

std::vector<protocol::SignedDocument> read_all(std::vector<fs::path> files) {
  std::sort(files.begin(), files.end());
  std::vector<protocol::SignedDocument> documents;
  for (const fs::path& file : files) documents.push_back(read_document(file));
  return documents;
}

}  // namespace

void ReceiptBook::add(const protocol::Receipt& receipt, const protocol::SignedDocument& document) {
  write_document(
      folder_ / day_of(receipt.time) / (receipt.unit + "." + std::to_string(receipt.attempt) + receipt_ending),
      document);
}

void ReceiptBook::add(const protocol::Settlement& settlement, const protocol::SignedDocument& document) {
  char name[32];
  std::snprintf(name, sizeof name, "%012llu.json", static_cast<unsigned long long>(settlement.sequence));
  write_document(folder_ / "settlements" / name, document);
  last_settlement_ = std::max(last_settlement(), settlement.sequence);
}

uint64_t ReceiptBook::last_settlement() const {
  if (last_settlement_) return *last_settlement_;
  uint64_t last = 0;
  if (fs::is_directory(folder_ / "settlements")) {
    for (const auto& entry : fs::directory_iterator(folder_ / "settlements")) {
      const std::string name = entry.path().stem().string();
      uint64_t sequence = 0;
      std::from_chars(name.data(), name.data() + name.size(), sequence);
      if (entry.path().extension() == ".json") last = std::max(last, sequence);
    }
  }
  last_settlement_ = last;
  return last;
}

std::vector<protocol::SignedDocument> ReceiptBook::receipts() const {
  std::vector<fs::path> files;
  if (!fs::is_directory(folder_)) return {};
  for (const auto& entry : fs::recursive_directory_iterator(folder_)) {
    if (entry.path().string().ends_with(receipt_ending)) files.push_back(entry.path());
  }
  return read_all(std::move(files));
}

std::vector<protocol::SignedDocument> ReceiptBook::settlements() const {
  std::vector<fs::path> files;
  if (!fs::is_directory(folder_ / "settlements")) return {};
  for (const auto& entry : fs::directory_iterator(folder_ / "settlements")) {
    if (entry.path().extension() == ".json") files.push_back(entry.path());
  }
  return read_all(std::move(files));
}

std::string day_of(int64_t unix_time) {
  const std::time_t time = static_cast<std::time_t>(unix_time);
  std::tm parts{};
  gmtime_r(&time, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%d", &parts);
  return text;
}

}  // namespace agent
