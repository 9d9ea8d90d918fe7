"""The processes of a run: started with a log each, watched, stopped politely."""

import contextlib
import signal
import subprocess
import time

from common import Failure


@contextlib.contextmanager
def no_interruption():
    """Ctrl+C waits until the block is done, in commands that the block runs too."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Process:
    def __init__(self, name, command, log):
        self.name = name
        self.log = log
        with open(log, "wb") as output:
            # setpriv: should this driver be killed, its children end too. Their own session: Ctrl+C reaches only the
            # driver, which stops them in the right order.
            self._child = subprocess.Popen(["setpriv", "--pdeathsig", "TERM", "--", *map(str, command)],
                                           stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                                           start_new_session=True)

    def check(self):
        """Raises a Failure if it has ended by itself."""
        code = self._child.poll()
        if code is not None:
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise Failure(f"{self.name} {how}. Its last words:\n{self.last_words()}\nLog: {self.log}")

    def last_words(self, lines=8):
        text = self.log.read_text(errors="backslashreplace").strip()
        return "\n".join("  " + line for line in text.splitlines()[-lines:]) or "  (none)"

    def ask_to_stop(self):
        if self._child.poll() is None:
            self._child.send_signal(signal.SIGTERM)

    def wait_stopped(self, seconds):
        """Waits, then kills. Returns whether it stopped by itself."""
        try:
            self._child.wait(seconds)
            return True
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
            return False


class Processes:
    """Everything that runs, in the order of its start. Leaving the `with` block stops it: agents first, the pool last."""

    def __init__(self):
        self._running = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self, name, command, log):
        process = Process(name, command, log)
        self._running.append(process)
        return process

    def check(self):
        for process in self._running:
            process.check()

    def wait_for(self, condition, seconds, what):
        """Polls until condition() is true; a Failure if a process dies or the time is over."""
        end = time.monotonic() + seconds
        while not condition():
            self.check()
            if time.monotonic() > end:
                logs = ", ".join(str(process.log) for process in self._running)
                raise Failure(f"{what} took more than {seconds} s. Logs: {logs}")
            time.sleep(0.05)

    def stop(self):
        pool, agents = self._running[:1], self._running[1:]
        for group in (agents, pool):
            for process in group:
                process.ask_to_stop()
            for process in group:
                process.wait_stopped(seconds=10)
        self._running = []
