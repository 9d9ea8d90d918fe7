"""A pool over real TLS that can answer anything; where a test does not say otherwise, it answers as a pool should."""

import base64
import collections
import http.server
import json
import re
import ssl
import threading
import time

import harness
import wire
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

MEGABYTE = bytes(1 << 20)


class Server:
    """A TLS server on loopback that counts connections; self.handle(exchange) answers each request."""

    def __init__(self, sandbox, certificate=None, context=None, plain=False):
        self.sandbox, self.connections, self.requests = sandbox, 0, []
        chain, key = certificate or sandbox.certificate()
        context = context or ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain, key)
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30

            def setup(self):
                server.connections += 1
                if not plain:
                    self.request = context.wrap_socket(self.request, server_side=True, do_handshake_on_connect=False)
                    try:
                        self.request.do_handshake()
                    except OSError:
                        self.request.close()
                        raise
                super().setup()

            def finish(self):
                try:
                    super().finish()
                finally:
                    self.request.close()

            def serve(self):
                self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                server.requests.append((self.command, self.path))
                server.handle(self)
            do_GET = do_POST = do_PUT = serve

            def log_message(self, *_):
                pass

            def say(self, status, body, **headers):
                """A whole answer; a dict is sent as JSON. Headers in Python spelling."""
                if isinstance(body, dict):
                    body = json.dumps(body).encode()
                self.send_response(status)
                for name, value in {"Content-Length": len(body), **headers}.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                self.wfile.write(body)

            def flood(self, status, chunk, total, between=lambda: None, **headers):
                """An answer of `total` bytes that repeats `chunk`, until the agent hangs up."""
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                self.close_connection = True
                for _ in range(0, total, len(chunk)):
                    self.wfile.write(chunk)
                    between()

        class Quiet(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, address):  # the agent hung up, or refused the handshake
                pass

        self.server = Quiet(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        self.url = f"https://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def handle(self, exchange):
        exchange.say(200, {})

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class HostilePool(Server):
    """blobs: digest -> bytes. leases: answers of POST /v1/leases in turn, then `nothing_to_do`. settlements: documents.
    special: path pattern -> function of the exchange that answers instead."""

    def __init__(self, sandbox, **options):
        self.key = Ed25519PrivateKey.generate()
        self.public = wire.public_hex(self.key)
        self.pool_id = wire.sha256(bytes.fromhex(self.public))
        self.blobs, self.leases, self.special = {}, collections.deque(), {}
        self.settlements, self.releases, self.submissions = [], [], []
        self.rig, self.uploads = None, collections.defaultdict(bytes)
        super().__init__(sandbox, **options)

    def info(self):
        return {"pool_id": self.pool_id, "public_keys": [{"key": self.public}], "protocol": 1, "software": "fake/1",
                "minimum_agent": "0.1.0", "time": int(time.time()), "max_piece_bytes": 1 << 20}

    def signed(self, document, name="document"):
        text = json.dumps(document, sort_keys=True, separators=(",", ":"))
        return {name: text, "signature": base64.b64encode(self.key.sign(text.encode())).decode()}

    def receipt(self, submission, **changed):
        job, number, _ = submission["unit"].split(".")
        return {"account": "ann", "attempt": submission["attempt"], "job": job, "outcome": "accepted", "pool_id": self.pool_id,
                "price": "83", "result": submission["result"]["digest"], "rig": self.rig, "round": int(number),
                "segments_root": submission["segments_root"], "time": int(time.time()), "tokens": submission["tokens"],
                "type": "receipt", "unit": submission["unit"], "version": 1, **changed}

    def settlement(self, **changed):
        return {"account": "ann", "amount": "83", "attempt": 1, "outcome": "settled", "pool_id": self.pool_id, "reason": "",
                "receipt": "0" * 64, "rig": self.rig, "sequence": 1, "time": int(time.time()), "type": "settlement",
                "unit": "job.0.t0", "version": 1, **changed}

    def count(self, pattern):
        """Requests so far whose path is like that."""
        return sum(bool(re.fullmatch(pattern, path)) for _, path in self.requests)

    def handle(self, exchange):
        for pattern, answer in list(self.special.items()):
            if re.fullmatch(pattern, exchange.path):
                return answer(exchange)
        if found := re.search(r'keyid="(\w+)"', exchange.headers.get("Signature-Input", "")):
            self.rig = found[1]
        return self.plain(exchange, exchange.path.split("/")[2:])

    def plain(self, exchange, words):
        body = exchange.body
        if words == ["pool"]:
            return exchange.say(200, self.info())
        if words == ["rigs"]:
            return exchange.say(200, {"rig_id": "rig", "account": "ann"})
        if words == ["leases"]:
            nothing = {"lease": None, "reason": "nothing_to_do", "message": "", "retry_after_s": 1}
            return exchange.say(200, self.leases.popleft() if self.leases else nothing)
        if words[-1] == "renewal":
            return exchange.say(200, {"renew_s": 60, "deadline_s": 900, "wanted": True})
        if words[-1] == "release":
            self.releases.append(json.loads(body)["reason"])
            return exchange.say(200, {})
        if words[0] == "settlements":
            new = [self.signed(s) for s in self.settlements if s["sequence"] > int(words[2])]
            return exchange.say(200, {"settlements": new[:500]})
        if words == ["submissions"]:
            self.submissions.append(json.loads(body))
            return exchange.say(200, self.signed(self.receipt(self.submissions[-1]), "receipt"))
        if exchange.command == "PUT":
            self.uploads[words[1]] = self.uploads[words[1]][:int(words[2])] + body
            return exchange.say(200, {"offset": len(self.uploads[words[1]])})
        blob = self.blobs[words[1]]
        begin = int((exchange.headers.get("Range") or "bytes=0-")[6:-1])
        return exchange.say(206 if begin else 200, blob[begin:])


class RealWork:
    """A lease that a real pool gave, and the blobs that it names."""

    def __init__(self):
        sandbox = harness.Sandbox()
        try:
            pool = harness.Pool(sandbox)
            token = pool.account("ann")
            pool.dataset("text", harness.generated_text(20_000))
            pool.job("job", "text", rounds=5, units=1, lanes=1, steps=2, batch=2, context=32, evaluate_every=1000)
            pool.start()
            client = wire.Client(pool.url, sandbox.ca)
            assert client.enrol("ann", token, "rig")[0] == 200
            self.lease = client.lease()[1]["lease"]
            unit = self.lease["unit"]
            names = [unit["weights"]["checkpoint"]["digest"], *(shard["digest"] for shard in unit["shards"])]
            self.blobs = {name: pool.get("/v1/blobs/" + name) for name in names}
        finally:
            sandbox.close(keep=False)

    def answer(self, edit=lambda lease: None):
        """The answer of POST /v1/leases with a copy of the lease, edited."""
        lease = json.loads(json.dumps(self.lease))
        edit(lease)
        return {"lease": lease}
