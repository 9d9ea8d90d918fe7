"""Real gradpool and gradminer processes for the end-to-end tests, each test in a folder of its own.

The binaries come from $GRADPOOL and $GRADMINER (ctest sets them), else from build/release/bin.
A failed test prints the tails of all logs and keeps its folder.
"""

import ctypes
import http.client
import json
import os
import pathlib
import shutil
import signal
import sqlite3
import ssl
import subprocess
import tempfile
import time
import unittest
import urllib.parse

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
LIBFAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"


def binary(name):
    return os.environ.get(name.upper()) or str(REPOSITORY / "build/release/bin" / name)


def generated_text(size, seed=1):
    """English-like bytes that are the same on every machine: words from a small vocabulary, seeded."""
    words = ("the of and to in that he shall unto for i his a lord they be is him not them it with all thou thy was god "
             "which my me said but ye their have will thee from as are when this out were upon man by israel king son").split()
    state, out, length = seed, [], 0
    while length < size:
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        word = words[(state >> 33) * (state >> 40) % len(words)]
        if state >> 60 == 0:
            word += ".\n"
        out.append(word)
        length += len(word) + 1
    return " ".join(out)[:size]


def english_text(size):
    """The King James text where Debian's bible-kjv is installed, else generated_text()."""
    if not shutil.which("bible"):
        return generated_text(size)
    return subprocess.run(["bible", "-f", "gen1:1-rev22:21"], capture_output=True, check=True, text=True).stdout[:size]


def make_store_1(data):
    """The committed store of schema version 1 as a pool's data folder, which must not have a pool yet."""
    source = REPOSITORY / "tests/coordinator/store_1"
    for blob in (source / "blobs").iterdir():
        (data / "blobs" / blob.name[:2]).mkdir(parents=True, exist_ok=True)
        shutil.copy(blob, data / "blobs" / blob.name[:2])
    shutil.copy(source / "pool.key", data)
    (data / "pool.key").chmod(0o600)
    database = sqlite3.connect(data / "gradpool.db")
    database.executescript((source / "gradpool.sql").read_text() + "PRAGMA user_version = 1;")
    database.close()


def wait_for(what, condition, timeout, every=0.05):
    """Polls until condition() is true and returns its value; fails naming `what` after `timeout` seconds."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout} s in vain for {what}")
        time.sleep(every)


def _die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Process:
    """One child in its own process group, its output in a log file."""

    def __init__(self, sandbox, name, argv, env=None):
        self.name, self.argv = name, [str(a) for a in argv]
        self.log_path = sandbox.folder / f"{name}.log"
        self.log_begin = self.log_path.stat().st_size if self.log_path.exists() else 0
        with open(self.log_path, "ab") as log:
            self.popen = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                                          env={**os.environ, **(env or {})}, start_new_session=True,
                                          preexec_fn=_die_with_parent)
        sandbox.processes.append(self)

    def running(self):
        return self.popen.poll() is None

    def signal(self, number):
        if self.running():
            os.killpg(self.popen.pid, number)

    def wait(self, timeout):
        """The exit code."""
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {timeout} s") from None

    def stop(self, timeout=30):
        self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def kill(self):
        self.signal(signal.SIGKILL)
        return self.wait(30)

    def log(self):
        """What this process wrote (not earlier ones with the same name)."""
        with open(self.log_path, "rb") as log:
            log.seek(self.log_begin)
            return log.read().decode(errors="replace")


class Sandbox:
    """A folder, the processes started in it, and a certificate authority."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="gradpool-e2e-")).resolve()
        self.processes = []
        self.mounts = []
        self._certificates = 0
        self.ca, self._ca_key = self._authority("ca")

    def _openssl(self, *arguments):
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)

    def _authority(self, name):
        certificate, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30",
                      "-subj", f"/CN=end-to-end {name}", "-addext", "basicConstraints=critical,CA:TRUE",
                      "-addext", "keyUsage=critical,keyCertSign", "-keyout", key, "-out", certificate)
        return certificate, key

    def other_authority(self):
        return self._authority("other-ca")[0]

    def certificate(self, names="IP:127.0.0.1,DNS:localhost"):
        """(certificate, key) signed by the sandbox's authority for these subjectAltNames."""
        self._certificates += 1
        base = self.folder / f"server-{self._certificates}"
        certificate, key = base.with_suffix(".pem"), base.with_suffix(".key")
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30",
                      "-subj", "/CN=pool", "-addext", f"subjectAltName={names}", "-addext", "basicConstraints=CA:FALSE",
                      "-CA", self.ca, "-CAkey", self._ca_key, "-keyout", key, "-out", certificate)
        return certificate, key

    def small_disk(self, name, size):
        """A folder with only `size` bytes of room (tmpfs, needs root); None where mounting is not allowed."""
        folder = self.folder / name
        folder.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True)
        if done.returncode:
            return None
        self.mounts.append(folder)
        return folder

    def close(self, keep):
        for process in self.processes:
            process.signal(signal.SIGKILL)
            process.popen.wait()
        for mount in self.mounts:
            subprocess.run(["umount", mount], check=False)
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def print_logs(self, lines=25):
        for log in sorted(self.folder.glob("*.log")):
            tail = log.read_text(errors="replace").splitlines()[-lines:]
            print(f"--- {log.name} (last {len(tail)} lines)", *tail, sep="\n", flush=True)
        print(f"--- kept: {self.folder}", flush=True)


class Failed(AssertionError):
    """A command ended with an unexpected exit code."""


def run(argv, expect=0, timeout=120, env=None):
    """Runs a command to its end; expect None takes any exit code."""
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=timeout,
                          stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})})
    if expect is not None and done.returncode != expect:
        raise Failed(f"{' '.join(map(str, argv))}\nexit {done.returncode}, expected {expect}\n{done.stdout}{done.stderr}")
    return done


class Pool:
    """One gradpool folder and, after start(), its server."""

    TINY_MODEL = {"model_type": "gpt2", "vocab_size": 256, "n_positions": 32, "n_embd": 32, "n_layer": 2, "n_head": 2}
    TINY_LLAMA = {"model_type": "llama", "vocab_size": 256, "max_position_embeddings": 32, "hidden_size": 32,
                  "intermediate_size": 44, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
                  "rope_scaling": {"type": "linear", "factor": 2.0}}

    def __init__(self, sandbox, name="pool", names=None, data=None):
        self.sandbox, self.name = sandbox, name
        self.data = data or sandbox.folder / name
        self.certificate, self.key = sandbox.certificate(names) if names else sandbox.certificate()
        self.server = None
        self.url = self.status_url = None

    # --- the command line ---

    def cli(self, *arguments, expect=0, env=None, timeout=120):
        return run([binary("gradpool"), "--data", self.data, *arguments], expect, timeout, env)

    def json(self, *arguments):
        return json.loads(self.cli(*arguments, "--json").stdout)

    def account(self, name):
        """Creates an account; its token."""
        return self.json("account", "create", name)["token"]

    def dataset(self, name, text):
        file = self.sandbox.folder / f"{name}.txt"
        file.write_text(text)
        return self.json("dataset", "import", name, "--text", file)

    def job(self, name, dataset, model=None, **options):
        """job create; options in Python spelling, e.g. outer_lr=0.7."""
        config = self.sandbox.folder / f"{name}.config.json"
        config.write_text(json.dumps(model or self.TINY_MODEL))
        arguments = [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
        return self.json("job", "create", name, "--dataset", dataset, "--config", config, *arguments)

    def show(self, job):
        return self.json("job", "show", job)

    def wait_job(self, job, timeout=180, state="completed"):
        """Waits until the job is in that state; its status."""
        def status():
            shown = self.show(job)
            if shown["state"] in ("diverged", "unfunded", "cancelled") and shown["state"] != state:
                raise AssertionError(f"job {job} is {shown['state']}: {shown['detail']}")
            return shown if shown["state"] == state else None
        return wait_for(f"job {job} to be {state}", status, timeout, every=0.25)

    def wait_rounds(self, job, rounds, timeout=120):
        return wait_for(f"round {rounds} of job {job}", lambda: self.show(job)["rounds_done"] >= rounds, timeout)

    # --- the server ---

    def launch(self, port=0, env=None):
        """Starts serving and does not wait. A restarted pool keeps its port."""
        if self.url:
            port = urllib.parse.urlsplit(self.url).port
        (self.data / "serve.json").unlink(missing_ok=True)
        self.server = Process(self.sandbox, self.name, [
            binary("gradpool"), "--data", self.data, "serve", "--listen", f"127.0.0.1:{port}",
            "--certificate", self.certificate, "--private-key", self.key, "--status-listen", "127.0.0.1:0"], env)

    def start(self, port=0, env=None):
        """Starts serving and waits until it is ready."""
        self.launch(port, env)
        ready = self.data / "serve.json"

        def served():
            if not self.server.running():
                raise AssertionError(f"gradpool serve ended with {self.server.popen.returncode}:\n{self.server.log()}")
            return ready.exists()
        wait_for("gradpool to be ready", served, 60)
        told = json.loads(ready.read_text())
        self.url, self.status_url = told["url"], told["status_url"]
        return self

    def get(self, path):
        """An unsigned GET over TLS; the body. Raises on anything but 200."""
        parts = urllib.parse.urlsplit(self.url)
        context = ssl.create_default_context(cafile=self.sandbox.ca)
        connection = http.client.HTTPSConnection(parts.hostname, parts.port, context=context, timeout=20)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise AssertionError(f"GET {path}: {answer.status} {body[:300]!r}")
        return body

    def document(self, path):
        """The text of a signed document (job description or record)."""
        return json.loads(self.get(path))["document"]

    def record(self, job, number):
        return json.loads(self.document(f"/v1/jobs/{job}/records/{number}"))

    def weights_digests(self, job, rounds):
        """The weights' digest after every round."""
        return [self.record(job, number)["weights"] for number in range(rounds)]


class Agent:
    """One gradminer with its own data folder; start() may be called again after it ended."""

    def __init__(self, pool, name, account, token, threads=1, simd=None, url=None, extra=(), env=None):
        self.pool, self.name = pool, name
        self.data = pool.sandbox.folder / f"{name}-data"
        self.account, self.token, self.threads, self.url = account, token, threads, url
        self.extra, self.env = list(extra), dict(env or {})
        if simd:
            self.env["GRADMINER_SIMD"] = simd
        self.process = None

    def arguments(self):
        return ["run", "-o", self.url or self.pool.url, "-u", self.account, "-p", self.token, "--rig-id", self.name,
                "--threads", self.threads, "--data", self.data, "--ca", self.pool.sandbox.ca, "--no-color", *self.extra]

    def start(self):
        self.process = Process(self.pool.sandbox, self.name, [binary("gradminer"), *self.arguments()], self.env)
        return self

    def stop(self, timeout=30):
        return self.process.stop(timeout)

    def kill(self):
        return self.process.kill()


class TestCase(unittest.TestCase):
    """Gives each test self.sandbox; cleans up after it and prints the logs of a failed one."""

    maxDiff = None

    def run(self, result=None):
        result = result or self.defaultTestResult()
        self.sandbox = Sandbox()
        bad = len(result.failures) + len(result.errors)
        try:
            super().run(result)
        finally:
            failed = len(result.failures) + len(result.errors) > bad
            if failed:
                print(f"=== {self.id()} failed", flush=True)
                self.sandbox.print_logs()
            self.sandbox.close(keep=failed)
        return result
