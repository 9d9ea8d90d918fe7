#include "ledger.h"

#include "fake_rig.h"

namespace pool::testing {
namespace {

class Ledger : public PoolFixture {
 protected:
  // The message of the database's refusal.
  std::string refusal(const std::string& statements) {
    try {
      core->store.write([&](Db& db) { db.exec(statements); });
    } catch (const std::exception& error) {
      return error.what();
    }
    return "";
  }
};

TEST_F(Ledger, MovesOnceForOneKey) {
  core->store.write([&](Db& db) {
    ledger::move(db, "k", 1, ledger::treasury, "job:a", 40);
    ledger::move(db, "k", 2, ledger::treasury, "job:a", 40);
    ledger::move(db, "l", 3, "job:a", "escrow:x", 15);
    ledger::move(db, "m", 3, "job:a", "escrow:x", 0);
    EXPECT_EQ(ledger::balance(db, ledger::treasury), -40);
    EXPECT_EQ(ledger::balance(db, "job:a"), 25);
    EXPECT_EQ(ledger::balance(db, "escrow:x"), 15);
    EXPECT_EQ(ledger::balance(db, "nobody"), 0);
    EXPECT_EQ(ledger::entries(db, "job:a").size(), 2u);
    EXPECT_EQ(ledger::entries(db, "").size(), 4u);
  });
  expect_books_balance();
}

TEST_F(Ledger, DatabaseRefusesChangeRemovalAndImbalance) {
  core->store.write([&](Db& db) { ledger::move(db, "k", 1, ledger::treasury, "job:a", 40); });
  EXPECT_NE(refusal("UPDATE ledger_postings SET amount = 41 WHERE amount = 40").find("append-only"), std::string::npos);
  EXPECT_NE(refusal("DELETE FROM ledger_postings").find("append-only"), std::string::npos);
  EXPECT_NE(refusal("UPDATE ledger_transactions SET time = 2").find("append-only"), std::string::npos);
  EXPECT_NE(refusal("DELETE FROM ledger_transactions").find("append-only"), std::string::npos);
  EXPECT_NE(refusal("INSERT INTO ledger_postings VALUES (NULL, 2, 'a', -5), (NULL, 2, 'b', 4);"
                    "INSERT INTO ledger_transactions VALUES (2, 'x', 1)")
                .find("sum to zero"),
            std::string::npos);
  EXPECT_NE(refusal("INSERT INTO ledger_transactions VALUES (2, 'x', 1)").find("sum to zero"), std::string::npos);
  EXPECT_NE(refusal("INSERT INTO ledger_postings VALUES (NULL, 1, 'a', 0)").find("closed"), std::string::npos);
  EXPECT_NE(refusal("INSERT INTO ledger_postings VALUES (NULL, 9, 'a', 5)").find("FOREIGN KEY"), std::string::npos);
  EXPECT_EQ(number("SELECT count(*) FROM ledger_postings"), 2);
  expect_books_balance();
}

}  // namespace
}  // namespace pool::testing
