"""packaging/cuda/fetch.py takes only what has the hashes, and says why it has nothing. No network.

usage: fetch_test.py TOOLS
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import unittest


class Fetch(unittest.TestCase):
    tools = None

    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.wheels = pathlib.Path(temporary.name) / "wheels"
        self.wheels.mkdir()
        self.out = pathlib.Path(temporary.name) / "out"

    def fetch(self):
        environment = os.environ | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels)}
        return subprocess.run(["/usr/bin/python3", self.tools / "fetch.py", self.out], env=environment, text=True,
                              stdin=subprocess.DEVNULL, capture_output=True)

    def test_nothing_to_be_had(self):
        done = self.fetch()
        self.assertEqual(done.returncode, 1)
        self.assertIn("No matching distribution found for nvidia-cuda-nvrtc-cu11==11.8.89", done.stderr)
        self.assertEqual(list(self.out.iterdir()), [])

    def test_another_file_of_that_name(self):
        (self.wheels / "nvidia_cuda_nvrtc_cu11-11.8.89-py3-none-manylinux2014_x86_64.whl").write_bytes(b"PK")
        done = self.fetch()
        self.assertEqual(done.returncode, 1)
        self.assertIn("DO NOT MATCH THE HASHES", done.stderr)
        self.assertEqual(list(self.out.iterdir()), [])

    def test_what_is_there_is_kept(self):
        self.out.mkdir()
        (self.out / "complete").write_bytes((self.tools / "requirements.txt").read_bytes())
        self.assertEqual(self.fetch().returncode, 0)


if __name__ == "__main__":
    Fetch.tools = pathlib.Path(sys.argv.pop(1))
    unittest.main()
