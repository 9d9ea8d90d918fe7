"""./quickstart: a pool and two agents on this machine train a small language model; then a summary. Reads as the story."""

import os
import signal
import sys

import summary
from build import build
from common import Failure, console, say
from folder import Folder, check_room
from options import parse
from processes import Processes
from training import Training


def main():
    options = parse(sys.argv[1:])
    folder = Folder(options)
    check_room(folder.path)
    # The kernels' compiler is 110 MB to fetch, for nothing where there is no card.
    cuda = "AUTO" if os.path.exists("/proc/driver/nvidia/version") else "OFF"
    build("release", ["gradpool", "gradminer"], first_options=[f"-DGRADMINER_CUDA={cuda}"])
    with Processes() as processes:
        training = Training(folder, processes)
        training.start_pool()
        training.prepare_job()
        training.run(options)
    summary.show(training)


def interrupted(*_):
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the second Ctrl+C does not disturb the stopping
    raise KeyboardInterrupt


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupted)
    try:
        main()
    except Failure as failure:
        console.file.flush()
        print(f"quickstart: {failure}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        say("\nStopped; nothing is lost. The same command goes on from here.")
        sys.exit(130)
