#include "earnings_command.h"

#include <cstdio>
#include <nlohmann/json.hpp>
#include <set>

#include "config.h"
#include "exit.h"
#include "receipt_book.h"

namespace agent {
namespace {

void add(Earnings& sum, const Earnings& more) {
  sum.units += more.units;
  sum.tokens += more.tokens;
  sum.accepted += more.accepted;
  sum.settled += more.settled;
  sum.voided += more.voided;
}

void read_pool(const std::filesystem::path& data, const PoolIdentity& pool, EarningsBook& book) {
  const ReceiptBook receipts(data / "receipts" / pool.folder_name());
  std::map<protocol::Digest, EarningsBook::Line> line_of;  // by receipt
  for (const protocol::SignedDocument& document : receipts.receipts()) {
    try {
      const protocol::Receipt receipt = protocol::receipt_from_canonical(document.document);
      if (!pool.signed_by_pool(document) || receipt.pool_id != pool.pool_id) {
        book.problems.push_back("receipt of " + receipt.unit + ": the pool's key did not sign it");
        continue;
      }
      if (receipt.outcome != protocol::Outcome::accepted) continue;
      const EarningsBook::Line line{pool.url, day_of(receipt.time), receipt.job};
      if (!line_of.emplace(protocol::sha256(document.document), line).second) continue;
      add(book.lines[line], {1, receipt.tokens, receipt.price, 0, 0});
    } catch (const protocol::Error& error) {
      book.problems.push_back(std::string("a receipt is damaged: ") + error.what());
    }
  }
  std::set<uint64_t> seen;
  for (const protocol::SignedDocument& document : receipts.settlements()) {
    try {
      const protocol::Settlement settlement = protocol::settlement_from_canonical(document.document);
      const auto line = line_of.find(settlement.receipt);
      if (!pool.signed_by_pool(document) || settlement.pool_id != pool.pool_id) {
        book.problems.push_back("settlement " + std::to_string(settlement.sequence) +
                                ": the pool's key did not sign it");
      } else if (line != line_of.end() && seen.insert(settlement.sequence).second) {
        (settlement.settled ? book.lines[line->second].settled : book.lines[line->second].voided) += settlement.amount;
      }
    } catch (const protocol::Error& error) {
      book.problems.push_back(std::string("a settlement is damaged: ") + error.what());
    }
  }
}

nlohmann::ordered_json to_json(const Earnings& earnings) {
  return {{"units", earnings.units},       {"tokens", earnings.tokens},
          {"accepted", earnings.accepted}, {"settled", earnings.settled},
          {"voided", earnings.voided},     {"escrow", earnings.accepted - earnings.settled - earnings.voided}};
}

void print_row(const char* day, const std::string& job, const Earnings& sum) {
  std::printf("%-10s  %-32s %8llu %14llu %14llu %14llu %14llu\n", day, job.c_str(),
              static_cast<unsigned long long>(sum.units), static_cast<unsigned long long>(sum.tokens),
              static_cast<unsigned long long>(sum.accepted), static_cast<unsigned long long>(sum.settled),
              static_cast<unsigned long long>(sum.voided));
}

void print_table(const EarningsBook& book) {
  std::string pool;
  Earnings total;
  for (const auto& [line, earnings] : book.lines) {
    if (line.pool != pool) {
      pool = line.pool;
      std::printf("%s (micro-credits)\n%-10s  %-32s %8s %14s %14s %14s %14s\n", pool.c_str(), "day", "job", "units",
                  "tokens", "accepted", "settled", "voided");
    }
    print_row(line.day.c_str(), line.job, earnings);
    add(total, earnings);
  }
  if (book.lines.empty()) {
    std::puts("no receipts yet");
  } else {
    print_row("total", "", total);
  }
}

void print_json(const EarningsBook& book) {
  nlohmann::ordered_json lines = nlohmann::ordered_json::array();
  Earnings total;
  for (const auto& [line, earnings] : book.lines) {
    nlohmann::ordered_json entry{{"pool", line.pool}, {"day", line.day}, {"job", line.job}};
    entry.update(to_json(earnings));
    lines.push_back(entry);
    add(total, earnings);
  }
  std::printf(
      "%s\n",
      nlohmann::ordered_json{{"lines", lines}, {"total", to_json(total)}, {"problems", book.problems}}.dump().c_str());
}

}  // namespace

EarningsBook read_earnings(const std::filesystem::path& data) {
  EarningsBook book;
  std::set<protocol::Digest> read;  // one pool may have had several addresses
  for (const PoolIdentity& pool : known_pools(data)) {
    if (read.insert(pool.pool_id).second) read_pool(data, pool, book);
  }
  return book;
}

void earnings_command(const std::filesystem::path& data, bool json) {
  const std::filesystem::path folder = data.empty() ? default_data_folder() : data;
  if (!std::filesystem::is_directory(folder)) {
    throw Failure(Exit::input, "there is no data folder " + folder.string() + "; name it with --data");
  }
  const EarningsBook book = read_earnings(folder);
  json ? print_json(book) : print_table(book);
  if (book.problems.empty()) return;
  std::string message = std::to_string(book.problems.size()) + " documents do not verify and are not counted:";
  for (const std::string& problem : book.problems) message += "\n  " + problem;
  throw Failure(Exit::input, message);
}

}  // namespace agent
