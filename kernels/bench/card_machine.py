"""What measure_card.py asks of the machine beside the card."""
import pathlib
import re
import subprocess

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
