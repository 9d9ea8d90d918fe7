"""The layer names every commit by the tables that it writes, also where the statements were prepared before and where
several writers share the transaction."""

import pathlib
import signal
import subprocess
import sys
import tempfile
import unittest

from faults import Faults

PROGRAM = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1] + "/some.db", isolation_level=None)
for text in sys.stdin.read().splitlines():
    db.execute(text)  # the module keeps the statement prepared
"""
SCHEMA = ["BEGIN", "CREATE TABLE a (x)", "CREATE TABLE b (x)", "CREATE TABLE c (x)", "COMMIT"]
ONE = ["BEGIN", "INSERT INTO a VALUES (1)", "UPDATE b SET x = 1", "COMMIT"]


def body(*statements):
    return ["SAVEPOINT body", *statements, "RELEASE body"]


class Commits(unittest.TestCase):
    def run_program(self, statements, arm=None):
        """(exit code, the commits that became known) of a program that executes the statements on one connection."""
        with tempfile.TemporaryDirectory() as folder:
            data = pathlib.Path(folder) / "data"
            data.mkdir()
            faults = Faults(data)
            if arm:
                faults.arm(*arm)
            done = subprocess.run([sys.executable, "-c", PROGRAM, data], input="\n".join(statements), text=True,
                                  env=faults.env)
            return done.returncode, [step for step in faults.steps() if " commit " in step]

    def test_every_commit_of_a_kind(self):
        self.assertEqual(self.run_program(SCHEMA + 3 * ONE), (0, [
            "before commit schema", "after commit schema", "before commit a b", "after commit a b"]))
        for when in ("before", "after"):
            self.assertEqual(self.run_program(SCHEMA + 3 * ONE, (f"{when} commit a b", 3))[0], -signal.SIGKILL)
            self.assertEqual(self.run_program(SCHEMA + 2 * ONE, (f"{when} commit a b", 3))[0], 0)

    def test_a_transaction_of_several_writers(self):
        shared = ["BEGIN", *body("INSERT INTO a VALUES (1)"), *body("SELECT 1"),
                  "SAVEPOINT body", "INSERT INTO b VALUES (1)", "ROLLBACK TO body", "RELEASE body",
                  *body("DELETE FROM c", "INSERT INTO a VALUES (1)"), "COMMIT"]
        self.assertEqual(self.run_program(SCHEMA + shared)[1][2:], [
            "before commit a", "before commit c a", "after commit a", "after commit c a"])
        for step in ("before commit c a", "after commit a"):
            self.assertEqual(self.run_program(SCHEMA + 2 * shared, (step, 2))[0], -signal.SIGKILL)

    def test_what_writes_nothing(self):
        reads = ["BEGIN", "SELECT * FROM a", "COMMIT"]
        taken_back = ["BEGIN", "INSERT INTO a VALUES (1)", "ROLLBACK"]
        self.assertEqual(self.run_program(SCHEMA + reads + taken_back + ["BEGIN", "COMMIT"])[1][2:], [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
