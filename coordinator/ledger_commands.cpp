// gradpool ledger.
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "command_line.h"
#include "core.h"
#include "ledger.h"
#include "table.h"

namespace pool {

using nlohmann::json;

namespace {

struct LedgerArguments {
  std::string account;
  bool json = false;
};

struct Books {
  std::vector<ledger::Entry> entries;
  std::vector<ledger::Balance> balances;
};

Books read_books(const GlobalOptions& options, const std::string& account) {
  Core core = open_core(options, false);
  return core.store.read([&](Db& db) { return Books{ledger::entries(db, account), ledger::balances(db)}; });
}

// NAME means account:NAME, a full name of the books itself.
std::string full_name(const std::string& account) {
  if (account.empty() || account == ledger::treasury || account.find(':') != std::string::npos) return account;
  return ledger::account_of(account);
}

void ledger_command(const GlobalOptions& options, const LedgerArguments& arguments) {
  const std::string account = full_name(arguments.account);
  const Books books = read_books(options, account);
  json entries = json::array(), balances = json::object();
  std::vector<std::vector<std::string>> entry_rows, balance_rows;
  for (const ledger::Entry& entry : books.entries) {
    entries.push_back({{"transaction", entry.transaction},
                       {"time", entry.time},
                       {"key", entry.idempotency_key},
                       {"account", entry.account},
                       {"amount", entry.amount}});
    entry_rows.push_back({std::to_string(entry.transaction), show_time(entry.time), entry.idempotency_key,
                          entry.account, show_amount(entry.amount)});
  }
  for (const ledger::Balance& balance : books.balances) {
    if (!account.empty() && balance.account != account) continue;
    balances[balance.account] = balance.amount;
    balance_rows.push_back({balance.account, show_amount(balance.amount)});
  }
  if (arguments.json) return print_json({{"entries", entries}, {"balances", balances}});
  print_table({"TRANSACTION", "TIME", "KEY", "ACCOUNT", "MICRO-CREDITS"}, entry_rows);
  std::cout << '\n';
  print_table({"ACCOUNT", "BALANCE"}, balance_rows);
}

}  // namespace

void add_ledger_commands(CLI::App& app, const GlobalOptions& options) {
  const auto arguments = std::make_shared<LedgerArguments>();
  CLI::App* ledger = app.add_subcommand("ledger", "Postings and balances in micro-credits");
  ledger->add_option("--account", arguments->account, "Of one account (or job:NAME, escrow:NAME, treasury)");
  ledger->add_flag("--json", arguments->json);
  ledger->callback([&options, arguments] { ledger_command(options, *arguments); });
}

}  // namespace pool
