"""What measure_card.py asks of the machine beside the card."""
import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sysconfig

DRIVER = pathlib.Path("/proc/driver/nvidia/version")


def ask_nvidia_smi(bus_id, what):
    """None where it is not there, or does not say."""
    try:
        return subprocess.run(["nvidia-smi", "-i", bus_id, f"--query-gpu={what}", "--format=csv,noheader,nounits"],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True, timeout=60).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def highest_megahertz(bus_id):
    """nvidia-smi knows higher clocks than the driver tells, which boosting cards reach; 0 where it does not say."""
    try:
        return float(ask_nvidia_smi(bus_id, "clocks.max.sm") or 0)
    except ValueError:
        return 0


def driver_version(bus_id):
    """ "550.54.15", or that it is not known."""
    told = ask_nvidia_smi(bus_id, "driver_version")
    if told is None and DRIVER.exists():
        told = (re.search(r"\d+\.\d[\d.]*", DRIVER.read_text()) or [None])[0]
    return told or "of a version that is not known"


def add_libraries():
    """cuBLASLt and NCCL of PyTorch's wheels, which the loader does not find: for the programs that are started from now on,
    behind what LD_LIBRARY_PATH has. Which ones, in words."""
    found = {}
    for package, folders in (("nvidia", "*/lib"), ("torch", "lib")):
        spec = importlib.util.find_spec(package)
        for place in spec and spec.submodule_search_locations or ():
            for name in ("libcublasLt.so.*", "libnccl.so.*"):
                for library in sorted(pathlib.Path(place).glob(f"{folders}/{name}")):
                    found.setdefault(str(library.parent), []).append(library.name)
    before = [folder for folder in os.environ.get("LD_LIBRARY_PATH", "").split(":") if folder]
    os.environ["LD_LIBRARY_PATH"] = ":".join(before + [folder for folder in found if folder not in before])
    return "; ".join(f"{', '.join(names)} in {folder}" for folder, names in found.items()) or "none"


def compute_sanitizer():
    """Where it is, also in the toolkit's usual place; None where it is not."""
    return shutil.which("compute-sanitizer", path=f"{os.environ.get('PATH', '')}:/usr/local/cuda/bin")


def missing_compiler():
    """What Triton, by which torch.compile computes, misses here to build its own parts; None where it has it."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return "there is no C compiler: neither CC nor gcc nor clang"
    headers = {f"-I{folder}" for folder in (sysconfig.get_path("include"), sysconfig.get_path("include", "posix_prefix"))}
    try:
        done = subprocess.run([compiler, "-fsyntax-only", *headers, "-x", "c", "-"], input="#include <Python.h>\n",
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except OSError as error:
        return str(error)
    return None if done.returncode == 0 else f"{compiler} does not compile against Python.h (of python3-dev)"
