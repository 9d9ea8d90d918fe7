// Rows of the table units.
#pragma once

#include <optional>

#include "core.h"

namespace pool {

struct UnitRow {
  int64_t id = 0;
  std::string name, job;
  uint64_t round = 0, number = 0;
  protocol::UnitKind kind = protocol::UnitKind::train;
  uint64_t tokens = 0, price = 0, max_result_bytes = 0;
  std::optional<int64_t> accepted;  // the result
};

std::optional<UnitRow> find_unit(Db& db, const std::string& name);
UnitRow read_unit(Db& db, int64_t id);
// Adds the open unit that the plan says.
void insert_unit(Db& db, const Job& job, uint64_t round, protocol::UnitKind kind, uint64_t number);

// Whether a result of this account would still be used: the job goes on, and the unit is open, or repeated for a check
// that is open and that the account has no part in yet.
bool is_wanted(Db& db, const UnitRow& unit, bool replay, const std::string& account);

}  // namespace pool
