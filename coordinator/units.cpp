#include "units.h"

#include "protocol/plan.h"

namespace pool {
namespace {

#define UNIT_COLUMNS "id, name, job, round, number, kind, tokens, price, max_result_bytes, accepted"

UnitRow unit_at(Statement& row) {
  UnitRow unit{row.getColumn(0).getInt64(),
               text_at(row, 1),
               text_at(row, 2),
               number_at(row, 3),
               number_at(row, 4),
               text_at(row, 5) == "train" ? protocol::UnitKind::train : protocol::UnitKind::evaluate,
               number_at(row, 6),
               number_at(row, 7),
               number_at(row, 8),
               std::nullopt};
  if (!row.isColumnNull(9)) unit.accepted = row.getColumn(9).getInt64();
  return unit;
}

}  // namespace

std::optional<UnitRow> find_unit(Db& db, const std::string& name) {
  Statement row = query(db, "SELECT " UNIT_COLUMNS " FROM units WHERE name = ?", name);
  if (!row.executeStep()) return std::nullopt;
  return unit_at(row);
}

UnitRow read_unit(Db& db, int64_t id) {
  Statement row = query(db, "SELECT " UNIT_COLUMNS " FROM units WHERE id = ?", id);
  if (!row.executeStep()) throw std::logic_error("there is no unit " + std::to_string(id));
  return unit_at(row);
}

void insert_unit(Db& db, const Job& job, uint64_t round, protocol::UnitKind kind, uint64_t number) {
  const protocol::Unit unit = protocol::plan_unit(job.description, round, kind, number);
  execute(db,
          "INSERT INTO units (name, job, round, kind, number, tokens, price, max_result_bytes) VALUES (?, ?, ?, ?, ?, "
          "?, ?, ?)",
          unit.name, unit.job, round, protocol::to_string(kind), number, unit.tokens, unit.price,
          unit.max_result_bytes);
}

bool is_wanted(Db& db, const UnitRow& unit, bool replay, const std::string& account) {
  if (integer(db, 0, "SELECT count(*) FROM jobs WHERE name = ? AND state IN ('completed', 'cancelled')", unit.job))
    return false;
  if (!unit.accepted) return true;
  return replay &&
         integer(db, 0,
                 "SELECT count(*) FROM checks WHERE unit = ?1 AND state = 'open' AND NOT EXISTS (SELECT 1 FROM results "
                 "WHERE unit = ?1 AND account = ?2 AND pay <> 'voided')",
                 unit.id, account) > 0;
}

}  // namespace pool
