"""Which folder may include and link which, what a folder must not know, and how long a source file may be.

usage: structure_test.py REPOSITORY
"""

import pathlib
import re
import sys
import tempfile
import unittest

# folder -> folders of ours that it may use besides itself
MAY_USE = {
    "kernels": set(),
    "pool-protocol": set(),
    "agent": {"kernels", "pool-protocol"},
    "coordinator": {"kernels", "pool-protocol"},
}
# (folder, exempt subfolders, what it must not include, why)
MUST_NOT_INCLUDE = [
    ("kernels", ("kernels/files/", "kernels/bench/", "kernels/include/kernels/files.h"), r"nlohmann/|kernels/files\.h",
     "JSON belongs to kernels/files"),
    ("kernels/cuda", (), r"^(?!cuda/|cpu/math_constants\.h$|cstddef$|cstdint$)", "device code has no headers but its own"),
    ("kernels", (), r"curl/|boost/asio|boost/beast|sys/socket\.h|openssl/|sqlite|SQLiteCpp|spdlog/", "kernels are maths"),
    ("pool-protocol", (), r"curl/|boost/|sys/socket\.h|cuda|SQLiteCpp|spdlog/", "the protocol has no sockets and no CUDA"),
    ("agent", (), r"SQLiteCpp|prometheus/", "the store and the metrics are the pool's"),
]
SOURCE = {".h", ".hpp", ".cpp", ".cc", ".cu", ".cuh"}
MAXIMUM_LINES = 500
LONG_LINES = 400

INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.MULTILINE)
# A CMake command with its arguments; ours never nest parentheses inside these three.
COMMAND = re.compile(r"\b(add_library|add_executable|target_link_libraries)\s*\(([^)]*)\)", re.IGNORECASE)


def sources(root, folder):
    return sorted(p for p in (root / folder).rglob("*") if p.suffix in SOURCE)


def include_roots(root):
    roots = [root]
    for folder in MAY_USE:
        roots += [root / folder, root / folder / "include"]
        roots += [p for p in (root / folder).rglob("*") if p.is_dir()]
    return roots


def folder_of(root, path):
    return path.relative_to(root).parts[0]


def owners(root, roots, source, name):
    """The folders of ours that an include may mean; a file of the same folder wins, like the compiler's search."""
    found = {folder_of(root, base / name) for base in [source.parent, *roots] if (base / name).is_file()}
    own = folder_of(root, source)
    return {own} if own in found else found & MAY_USE.keys()


def wrong_includes(root):
    roots = include_roots(root)
    problems = []
    for folder, allowed in MAY_USE.items():
        for source in sources(root, folder):
            where = source.relative_to(root).as_posix()
            for name in INCLUDE.findall(source.read_text()):
                for owner in owners(root, roots, source, name) - allowed - {folder}:
                    problems.append(f"{where} includes {name} of {owner}; {folder} may use only {sorted(allowed)}")
                for subject, exempt, pattern, why in MUST_NOT_INCLUDE:
                    if where.startswith(subject + "/") and not where.startswith(exempt) and re.search(pattern, name):
                        problems.append(f"{where} includes {name}: {why}")
    return problems


def cmake_commands(root, folder):
    for file in sorted((root / folder).rglob("CMakeLists.txt")):
        text = re.sub(r"#.*", "", file.read_text())
        for command, arguments in COMMAND.findall(text):
            words = arguments.split()
            if words:
                yield file.relative_to(root).as_posix(), command.lower(), words[0], words[1:]


def wrong_links(root):
    home = {}
    for folder in MAY_USE:
        for _, command, target, words in cmake_commands(root, folder):
            if command != "target_link_libraries":
                home[target] = folder
                if "ALIAS" in words:
                    home[target] = home.get(words[-1], folder)
    problems = []
    for folder, allowed in MAY_USE.items():
        for file, command, target, words in cmake_commands(root, folder):
            if command != "target_link_libraries":
                continue
            for word in words:
                owner = home.get(word)
                if owner and owner != folder and owner not in allowed:
                    problems.append(f"{file}: {target} links {word} of {owner}; {folder} may use only {sorted(allowed)}")
                if target == "kernels" and "json" in word.lower():
                    problems.append(f"{file}: kernels links {word}; JSON belongs to kernels_files")
    return problems


def long_files(root):
    problems = []
    for folder in [*MAY_USE, "tests"]:
        for source in sources(root, folder):
            lines = len(source.read_text().splitlines())
            where = source.relative_to(root)
            if lines > MAXIMUM_LINES:
                problems.append(f"{where} has {lines} lines, more than {MAXIMUM_LINES}: give its second job its own file")
            elif lines > LONG_LINES:
                print(f"warning: {where} has {lines} lines")
    return problems


def links_as_text(root):
    """Files that hold a link's target: made where links cannot be, they are junk to whoever reads them."""
    small = (p for p in (root / "tests").rglob("*") if p.is_file() and p.stat().st_size < 200)
    return [f"{p.relative_to(root)} holds the text of a link" for p in small if re.fullmatch(rb"(\.\./)+\S+", p.read_bytes())]


class Repository(unittest.TestCase):
    root = None

    def assert_none(self, problems):
        if problems:
            self.fail("\n" + "\n".join(problems))

    def test_there_is_something_to_check(self):
        for folder in MAY_USE:
            self.assertTrue(sources(self.root, folder), f"no sources in {folder}")

    def test_includes(self):
        self.assert_none(wrong_includes(self.root))

    def test_links(self):
        self.assert_none(wrong_links(self.root))

    def test_length(self):
        self.assert_none(long_files(self.root))

    def test_links_as_text(self):
        self.assert_none(links_as_text(self.root))


class Checker(unittest.TestCase):
    """The checks see what they are there to see."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.root = pathlib.Path(self.folder.name)
        for folder in MAY_USE:
            self.write(f"{folder}/{folder}.h", "")
            self.write(f"{folder}/CMakeLists.txt", f"add_library({folder} STATIC {folder}.cpp)")
        self.write("kernels/include/kernels/ops.h", "")

    def tearDown(self):
        self.folder.cleanup()

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def test_allowed(self):
        self.write("agent/run.cpp", '#include "agent.h"\n#include "kernels/ops.h"\n#include <nlohmann/json.hpp>\n')
        self.assertEqual(wrong_includes(self.root), [])
        self.assertEqual(wrong_links(self.root), [])

    def test_wrong_include(self):
        self.write("agent/run.cpp", '#include "coordinator.h"\n')
        self.write("kernels/files/a.cpp", "#include <nlohmann/json.hpp>\n")
        self.write("kernels/cpu/a.cpp", "#include <nlohmann/json.hpp>\n")
        self.write("kernels/cuda/a.cu", '#include <cmath>\n#include "cuda/a.cuh"\n')
        self.write("kernels/cuda_host/a.cpp", "#include <cmath>\n")
        self.write("pool-protocol/src/a.cpp", "#  include <kernels/ops.h>\n")
        problems = "\n".join(wrong_includes(self.root))
        self.assertEqual(len(problems.splitlines()), 4, problems)
        for part in ("agent/run.cpp", "kernels/cpu/a.cpp", "kernels/cuda/a.cu", "pool-protocol/src/a.cpp"):
            self.assertIn(part, problems)

    def test_wrong_link(self):
        self.write("agent/CMakeLists.txt", "add_library(agent a.cpp)\ntarget_link_libraries(agent\n PRIVATE coordinator)")
        self.assertEqual(len(wrong_links(self.root)), 1)

    def test_long_file(self):
        self.write("agent/long.cpp", "\n" * (MAXIMUM_LINES + 1))
        self.assertEqual(len(long_files(self.root)), 1)

    def test_link_as_text(self):
        self.write("tests/corpus/job.json", "../../golden/job.json")
        self.write("tests/corpus/other.json", "{}")
        self.assertEqual(len(links_as_text(self.root)), 1)


if __name__ == "__main__":
    Repository.root = pathlib.Path(sys.argv.pop(1)).resolve()
    unittest.main()
