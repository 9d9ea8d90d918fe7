"""A served pool for the tests of gradpool's network side, and a raw TLS client that can send what no library sends."""

import json
import os
import pathlib
import re
import secrets
import socket
import ssl
import sys
import unittest
import urllib.parse
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "end_to_end"))
import harness  # noqa: E402
import wire  # noqa: E402


class ServedPool:
    """A folder with account `alice`, job `tiny` (one unit a round, plain gradients) and a running server."""

    def __init__(self, *flags, job=True, rounds=200):
        self.sandbox = harness.Sandbox()
        self.pool = harness.Pool(self.sandbox)
        self.token = self.pool.account("alice")
        if job:
            self.pool.dataset("text", harness.generated_text(20000))
            self.pool.job("tiny", "text", rounds=rounds, units=1, lanes=1, steps=1, batch=4, context=32, codec="fp32",
                          outer="adamw", evaluate_every=2, evaluate_rows=64, check_share=0)
        self.start(*flags)

    def start(self, *flags, env=None, port=0):
        argv = [harness.binary("gradpool"), "--data", self.pool.data, "serve", "--listen", f"127.0.0.1:{port}", "--certificate",
                self.pool.certificate, "--private-key", self.pool.key, "--status-listen", "127.0.0.1:0", *flags]
        self.process = harness.Process(self.sandbox, "serve", argv, env)
        ready = self.pool.data / "serve.json"

        def served():
            if not self.process.running():
                raise AssertionError(f"serve ended with {self.process.popen.returncode}:\n{self.process.log()}")
            return ready.exists()
        harness.wait_for("gradpool to be ready", served, 20)
        told = json.loads(ready.read_text())
        self.url, self.status_url = told["url"], told["status_url"]
        self.host, self.port = "127.0.0.1", urllib.parse.urlsplit(self.url).port
        self.pool.url = self.url

    def stop(self):
        code = self.process.popen.poll()
        if code:
            self.sandbox.print_logs()
        self.sandbox.close(keep=bool(code))
        assert not code, f"serve ended by itself with {code}; its log is above"

    def log(self):
        return self.process.log()

    # --- clients ---

    def tls(self, context=None):
        context = context or ssl.create_default_context(cafile=self.sandbox.ca)
        return context.wrap_socket(socket.create_connection((self.host, self.port), timeout=20), server_hostname=self.host)

    def connect(self):
        return Connection(self.tls())

    def connects(self):
        """Whether the server takes a further connection."""
        try:
            self.connect().close()
            return True
        except OSError:
            return False

    def connections(self):
        """How many the server has, but for the one that asks."""
        with urllib.request.urlopen(self.status_url + "/metrics") as answer:
            return int(re.search(r"^gradpool_connections (\d+)$", answer.read().decode(), re.MULTILINE)[1]) - 1

    def client(self, key=None):
        return Client(self.url, self.sandbox.ca, key)

    def rig(self, name="rig-1", account="alice", token=None):
        """An enrolled client."""
        client = self.client()
        status, answer = client.enrol(account, token or self.token, name)
        assert status == 200, answer
        return client

    def train_round(self, rig, loss):
        """One accepted training unit of noise, which closes a round of `tiny`; evaluates where it is asked to before."""
        lease = rig.leased(("train", "evaluate"))
        while lease["unit"]["kind"] == "evaluate":
            status, answer = rig.evaluate(lease, loss + 0.05)
            assert status == 200, answer
            lease = rig.leased(("train", "evaluate"))
        unit = lease["unit"]
        status, answer = rig.submit(lease, wire.random_result("fp32", unit["parameters"]), wire.EMPTY_DIGEST, loss)
        assert status == 200, answer
        self.pool.wait_rounds("tiny", unit["round"] + 1)


class Client(wire.Client):
    """wire.Client, and requests that are wrong in one place."""

    def leased(self, kinds=("train",)):
        """A lease; waits while the round before is being closed."""
        def lease():
            status, answer = self.lease(kinds)
            assert status == 200, answer
            return answer["lease"]
        return harness.wait_for("a lease", lease, 60)

    def evaluate(self, lease, loss):
        loss32 = wire.numpy.float32(loss)
        unit = lease["unit"]
        blocks = -(-unit["batch"] // (1024 // unit["context"]))
        leaf = wire.merkle_root([loss32.tobytes()])
        blob = wire.blob(wire.LOSSES, "fp32", blocks, loss32.tobytes() * blocks)
        return self.submit(lease, blob, wire.merkle_root([bytes.fromhex(leaf)] * blocks), loss32)

    def parts(self, method, path, body=b"", edit=lambda headers: None, **sign):
        """(method, path, body, headers) signed, then edited; `sign` are wire.Client._sign's changes."""
        if isinstance(body, dict):
            body = json.dumps(body).encode()
        headers = {"Host": f"{self.host}:{self.port}", "Content-Length": str(len(body))}
        headers.update(self._sign(method, path, body, headers["Host"], **sign))
        edit(headers)
        return method, path, body, headers


class Connection:
    """One TLS connection, bytes in, bytes out."""

    def __init__(self, sock):
        self.socket = sock
        self.buffer = b""

    def send(self, data):
        self.socket.sendall(data)
        return self

    def request(self, method, path, body=b"", headers=None):
        """Sends a request and returns (status, headers, body)."""
        headers = headers or {"Host": "127.0.0.1", **({"Content-Length": str(len(body))} if method != "GET" else {})}
        head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items()) + "\r\n"
        self.send(head.encode() + body)
        return self.response()

    def get(self, path, **headers):
        return self.request("GET", path, headers={"Host": "127.0.0.1", **{k.replace("_", "-"): v for k, v in headers.items()}})

    def _more(self):
        try:
            data = self.socket.recv(65536)
        except (ConnectionResetError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
            data = b""
        self.buffer += data
        return data

    def response(self):
        """(status, headers, body) of the next response; None when the connection was closed instead."""
        while b"\r\n\r\n" not in self.buffer:
            if not self._more():
                assert not self.buffer, self.buffer
                return None
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        status_line, *lines = head.decode().split("\r\n")
        headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
        while len(self.buffer) < int(headers.get("content-length", 0)):
            if not self._more():
                raise AssertionError("the response's body is cut off")
        length = int(headers.get("content-length", 0))
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        return int(status_line.split()[1]), headers, body

    def closed(self):
        """Whether the server closes without another byte."""
        return not self.buffer and not self._more()

    def close(self):
        self.socket.close()

    __del__ = close


def error_of(response):
    """The error object of (status, headers, body)."""
    return json.loads(response[2])["error"]


class Served(unittest.TestCase):
    """One pool for all tests of the class."""

    flags, job = (), True
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.pool = ServedPool(*cls.flags, job=cls.job)

    @classmethod
    def tearDownClass(cls):
        cls.pool.stop()

    def refused(self, response, status, name):
        self.assertIsNotNone(response, "the connection was closed without an answer")
        self.assertEqual((response[0], error_of(response)["name"]), (status, name), response[2])
        return error_of(response)

    def signed(self, client, method, path, body=b"", edit=lambda headers: None, **sign):
        connection = self.pool.connect()
        answer = connection.request(*client.parts(method, path, body, edit, **sign))
        connection.close()
        return answer
