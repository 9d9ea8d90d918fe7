"""The tables of docs/security.md against the tests that they name and the errors of docs/protocol.md.

usage: security_table_test.py REPOSITORY
"""

import ast
import pathlib
import re
import sys
import unittest


def rows(text, heading="|"):
    """The cells of every row of the tables that begin so, headings and rules left out."""
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        for line in table.splitlines()[2:] if table.startswith(heading) else ():
            yield [cell.strip() for cell in line.strip("|").split("|")]


def python_tests(file):
    """`file.py Class.method` of a Python file."""
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ClassDef):
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and method.name.startswith("test"):
                    yield f"{file.name} {node.name}.{method.name}"


def all_tests(root):
    tests = set()
    for file in (root / "tests").rglob("*_test.py"):
        tests.update(python_tests(file))
    for file in (root / "tests").rglob("*_test.cpp"):
        tests.update(".".join(found) for found in re.findall(r"^TEST(?:_F|_P)?\((\w+), (\w+)\)", file.read_text(), re.MULTILINE))
    return tests


def problems(security, protocol, tests):
    found, shown = [], set()
    for attempt, answer, test in rows(security, "| attempt |"):
        name = test.strip("`")
        if name not in tests:
            found.append(f"\"{attempt}\" names the test {name}, which does not exist")
        shown.update(re.findall(r"\b1\d{3}\b", answer))
    section = protocol[protocol.index("### 2.1 Errors"):]
    errors = {row[0] for row in rows(section[:section.index("\n## ")])}
    found += [f"error {error} of docs/protocol.md has no row" for error in sorted(errors - shown)]
    found += [f"error {error} is not in docs/protocol.md" for error in sorted(shown - errors)]
    return found


class SecurityTable(unittest.TestCase):
    root = None

    def test_every_row_and_every_error(self):
        docs = [(self.root / "docs" / name).read_text() for name in ("security.md", "protocol.md")]
        self.assertGreater(len(list(rows(docs[0], "| attempt |"))), 40)
        found = problems(*docs, all_tests(self.root))
        self.assertEqual(found, [], "\n" + "\n".join(found))

    def test_the_check_sees_what_is_wrong(self):
        protocol = "### 2.1 Errors\n\n| code | name |\n|---|---|\n| 1000 | a |\n| 1001 | b |\n\n## 3\n"
        security = "| attempt | error | test |\n|---|---|---|\n| x | 1000 | `a_test.py A.test_a` |\n| y | 1002 | `Suite.Name` |\n"
        self.assertEqual(len(problems(security, protocol, {"a_test.py A.test_a"})), 3)
        good = security.replace("1002", "1001")
        self.assertEqual(problems(good, protocol, {"a_test.py A.test_a", "Suite.Name"}), [])


if __name__ == "__main__":
    SecurityTable.root = pathlib.Path(sys.argv.pop(1)).resolve()
    unittest.main()
