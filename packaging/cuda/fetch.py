"""Fetches NVIDIA's compiler library (NVRTC) in the versions of requirements.txt, hashes checked, without root.

usage: fetch.py FOLDER

FOLDER then holds libnvrtc.so.11.2 and libnvrtc.so.12, each with its built-in headers. Runs again without harm. Where they
cannot be had, the last line of the error says why and the exit code is 1.
"""

import fnmatch
import importlib.util
import pathlib
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile

REQUIREMENTS = pathlib.Path(__file__).with_name("requirements.txt")
WANTED = "nvidia/cuda_nvrtc/lib/libnvrtc*.so.*"
ALTERNATIVE = "*.alt.so.*"  # 12.9 has its library twice
MOST_SECONDS = 240


def main():
    folder = pathlib.Path(sys.argv[1])
    complete = folder / "complete"
    if complete.exists() and complete.read_bytes() == REQUIREMENTS.read_bytes():
        return
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        download(pathlib.Path(temporary))
        for wheel in pathlib.Path(temporary).glob("*.whl"):
            unpack(wheel, folder)
    shutil.copyfile(REQUIREMENTS, complete)


def download(folder):
    command = [*pip(folder), "download", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes", "--retries=0",
               "--timeout=15", "--dest", folder, "--requirement", REQUIREMENTS]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=MOST_SECONDS)
    if done.returncode != 0:
        sys.exit(done.stdout.strip() or f"pip ended with {done.returncode}")


def pip(folder):
    """The pip of this Python, or one of an environment of its own."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    if not importlib.util.find_spec("ensurepip"):
        sys.exit("fetch.py: it needs pip, or Debian's python3-venv")
    venv.create(folder / "venv", with_pip=True)
    return [folder / "venv/bin/python", "-m", "pip"]


def unpack(wheel, folder):
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if fnmatch.fnmatch(name, WANTED) and not fnmatch.fnmatch(name, ALTERNATIVE):
                (folder / pathlib.PurePath(name).name).write_bytes(archive.read(name))


if __name__ == "__main__":
    try:
        main()
    except (OSError, subprocess.SubprocessError, zipfile.BadZipFile) as error:
        sys.exit(f"fetch.py: {error}")
