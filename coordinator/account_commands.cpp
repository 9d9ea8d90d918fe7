// gradpool account, gradpool rig.
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "accounts.h"
#include "command_line.h"
#include "table.h"

namespace pool {

using nlohmann::json;

namespace {

void create(const GlobalOptions& options, const std::string& name, bool as_json) {
  Core core = open_core(options, true);
  const std::string token = create_account(core, name);
  if (as_json) return print_json({{"account", name}, {"token", token}});
  std::cout << "account " << name << " created. Its enrolment token, shown only now:\n\n  " << token
            << "\n\nOn each rig: gradminer run -o https://HOST:PORT -u " << name << " -p " << token << '\n';
}

void print_accounts(const GlobalOptions& options, bool as_json) {
  Core core = open_core(options, false);
  json documents = json::array();
  std::vector<std::vector<std::string>> rows;
  for (const Account& account : list_accounts(core)) {
    documents.push_back({{"account", account.name},
                         {"created", account.created},
                         {"rigs", account.rigs},
                         {"settled", account.earned},
                         {"escrow", account.in_escrow}});
    rows.push_back({account.name, show_time(account.created), show_count(account.rigs), show_amount(account.earned),
                    show_amount(account.in_escrow)});
  }
  if (as_json) return print_json(documents);
  print_table({"ACCOUNT", "CREATED", "RIGS", "SETTLED", "IN ESCROW"}, rows);
}

json to_json(const RigStatus& rig) {
  return {{"rig_id", rig.identity.rig_id},
          {"account", rig.identity.account},
          {"key", protocol::to_hex(rig.identity.key)},
          {"agent", rig.agent},
          {"state", rig.state},
          {"reason", rig.reason},
          {"enrolled", rig.enrolled},
          {"last_seen", rig.last_seen},
          {"tokens_per_second", rig.tokens_per_second},
          {"accepted", rig.accepted},
          {"rejected", rig.rejected},
          {"earned", rig.earned}};
}

void list_rigs_command(const GlobalOptions& options, bool as_json) {
  Core core = open_core(options, false);
  json documents = json::array();
  std::vector<std::vector<std::string>> rows;
  for (const RigStatus& rig : core.store.read([](Db& db) { return list_rigs(db); })) {
    documents.push_back(to_json(rig));
    rows.push_back({rig.identity.rig_id, rig.identity.account,
                    rig.reason.empty() ? rig.state : rig.state + " (" + rig.reason + ")", show_time(rig.last_seen),
                    show_count(static_cast<uint64_t>(rig.tokens_per_second)), show_count(rig.accepted),
                    show_count(rig.rejected), show_count(rig.earned), protocol::to_hex(rig.identity.key)});
  }
  if (as_json) return print_json(documents);
  print_table({"RIG", "ACCOUNT", "STATE", "LAST SEEN", "TOKENS/S", "ACCEPTED", "REJECTED", "EARNED", "KEY"}, rows);
}

void revoke(const GlobalOptions& options, const std::string& rig) {
  Core core = open_core(options, false);
  const RigStatus revoked = revoke_rig(core, rig);
  std::cout << "rig " << revoked.identity.rig_id << " of account " << revoked.identity.account
            << " is revoked; results that it has delivered stay and are paid\n";
}

struct AccountArguments {
  std::string name;
  bool json = false;
};

}  // namespace

void add_account_commands(CLI::App& app, const GlobalOptions& options) {
  CLI::App* account = app.add_subcommand("account", "Accounts, which earn for their rigs")->require_subcommand(1);
  const auto arguments = std::make_shared<AccountArguments>();
  CLI::App* create_command = account->add_subcommand("create", "Make an account and print its enrolment token");
  create_command->add_option("NAME", arguments->name)->required();
  create_command->add_flag("--json", arguments->json);
  create_command->callback([&options, arguments] { create(options, arguments->name, arguments->json); });
  CLI::App* list_command = account->add_subcommand("list", "List accounts and what they earned (micro-credits)");
  list_command->add_flag("--json", arguments->json);
  list_command->callback([&options, arguments] { print_accounts(options, arguments->json); });
}

void add_rig_commands(CLI::App& app, const GlobalOptions& options) {
  CLI::App* rig = app.add_subcommand("rig", "Rigs that have enrolled")->require_subcommand(1);
  const auto arguments = std::make_shared<AccountArguments>();
  CLI::App* list_command = rig->add_subcommand("list", "List rigs");
  list_command->add_flag("--json", arguments->json);
  list_command->callback([&options, arguments] { list_rigs_command(options, arguments->json); });
  CLI::App* revoke_command = rig->add_subcommand("revoke", "Serve a rig no longer");
  revoke_command->add_option("KEY_OR_RIG_ID", arguments->name)->required();
  revoke_command->callback([&options, arguments] { revoke(options, arguments->name); });
}

}  // namespace pool
