"""gradpool's HTTPS API from outside: framing, TLS, limits, ranges, signals, and every error of docs/protocol.md 2.1."""

import base64
import json
import os
import shutil
import socket
import sqlite3
import ssl
import threading
import time
import unittest
import urllib.error
import urllib.request

from cryptography import x509
from http_pool import Connection, Served, ServedPool, error_of, harness, wire

HOST = b"Host: 127.0.0.1\r\n"


class Framing(Served):
    job = False
    flags = ("--timeout", "1")

    def test_keep_alive(self):
        connection = self.pool.connect()
        for _ in range(50):
            status, headers, body = connection.get("/v1/pool")
            self.assertEqual(status, 200)
            self.assertEqual(json.loads(body)["protocol"], 1)
        self.assertEqual(connection.get("/v1/pool", Connection="close")[0], 200)
        self.assertTrue(connection.closed())

    def test_pipelined(self):
        connection = self.pool.connect()
        connection.send((b"GET /v1/pool HTTP/1.1\r\n" + HOST + b"\r\n") * 3)
        self.assertEqual([connection.response()[0] for _ in range(3)], [200] * 3)

    def test_byte_by_byte(self):
        connection = self.pool.connect()
        for byte in b"GET /v1/pool HTTP/1.1\r\n" + HOST + b"\r\n":
            connection.send(bytes([byte]))
        self.assertEqual(connection.response()[0], 200)

    def test_smuggling_shapes(self):
        """Each is refused, and nothing behind it is taken for a request."""
        post = b"POST /v1/leases HTTP/1.1\r\n" + HOST
        shapes = {
            "length and chunked": post + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "chunked and length": post + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
            "chunked": post + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "odd coding": post + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
            "identity": post + b"Transfer-Encoding: identity\r\nContent-Length: 0\r\n\r\n",
            "two lengths": post + b"Content-Length: 0\r\nContent-Length: 5\r\n\r\n",
            "equal lengths": post + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n",
            "list of lengths": post + b"Content-Length: 0, 0\r\n\r\n",
            "signed length": post + b"Content-Length: +0\r\n\r\n",
            "negative length": post + b"Content-Length: -1\r\n\r\n",
            "hex length": post + b"Content-Length: 0x0\r\n\r\n",
            "huge length": post + b"Content-Length: 18446744073709551616\r\n\r\n",
            "empty length": post + b"Content-Length:\r\n\r\n",
            "bare line feed": b"GET /v1/pool HTTP/1.1\nHost: 127.0.0.1\n\n",
            "one bare line feed": b"GET /v1/pool HTTP/1.1\r\nHost: 127.0.0.1\nA: b\r\n\r\n",
            "bare carriage return": b"GET /v1/pool HTTP/1.1\r\nA: b\rContent-Length: 5\r\n" + HOST + b"\r\n",
            "folded line": b"GET /v1/pool HTTP/1.1\r\n" + HOST + b"A: b\r\n Content-Length: 5\r\n\r\n",
            "folded first line": b"GET /v1/pool HTTP/1.1\r\n Host: x\r\n" + HOST + b"\r\n",
            "space before colon": post + b"Content-Length : 5\r\n\r\n",
            "space in name": post + b"Content Length: 5\r\n\r\n",
            "no name": post + b": 5\r\n\r\n",
            "no colon": post + b"Content-Length\r\n\r\n",
            "nul": b"GET /v1/pool HTTP/1.1\r\nA: \0\r\n" + HOST + b"\r\n",
            "no host": b"GET /v1/pool HTTP/1.1\r\n\r\n",
            "two hosts": b"GET /v1/pool HTTP/1.1\r\n" + HOST + HOST + b"\r\n",
            "http/1.0": b"GET /v1/pool HTTP/1.0\r\n" + HOST + b"\r\n",
            "http/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "http/1.2": b"GET /v1/pool HTTP/1.2\r\n" + HOST + b"\r\n",
            "absolute form": b"GET https://127.0.0.1/v1/pool HTTP/1.1\r\n" + HOST + b"\r\n",
            "two spaces": b"GET  /v1/pool HTTP/1.1\r\n" + HOST + b"\r\n",
            "empty line first": b"\r\nGET /v1/pool HTTP/1.1\r\n" + HOST + b"\r\n",
            "other expectation": post + b"Expect: a-miracle\r\nContent-Length: 0\r\n\r\n",
            "no http": b"\x16\x03\x01 hello there\r\n\r\n",
        }
        for name, shape in shapes.items():
            with self.subTest(name):
                connection = self.pool.connect()
                connection.send(shape + b"GET /v1/pool HTTP/1.1\r\n" + HOST + b"\r\n")
                error = self.refused(connection.response(), 400, "bad_request")
                self.assertEqual(error["code"], 1000)
                self.assertTrue(connection.closed())
                connection.close()

    def test_refused_body_closes(self):
        """The body of a refused request never becomes the next request."""
        inner = b"GET /v1/pool HTTP/1.1\r\n" + HOST + b"\r\n"
        for line, status, code in ((b"POST /v1/nowhere", 404, 1004), (b"POST /v1/pool", 405, 1005), (b"GET /v1/pool", 413, 1001)):
            with self.subTest(line):
                connection = self.pool.connect()
                connection.send(line + b" HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(inner) + inner)
                answer = connection.response()
                self.assertEqual((answer[0], error_of(answer)["code"]), (status, code))
                self.assertTrue(connection.closed())

    def test_header_bound(self):
        connection = self.pool.connect()
        connection.send(b"GET /v1/pool HTTP/1.1\r\n" + HOST + b"A: " + b"b" * (17 << 10))
        self.refused(connection.response(), 413, "too_large")
        self.assertTrue(connection.closed())
        connection = self.pool.connect()
        self.assertEqual(connection.get("/v1/pool", A="b" * (15 << 10))[0], 200)

    def test_body_bounds(self):
        """Refused by the length alone; the client may still be sending."""
        bounds = {("POST", "/v1/leases"): 1 << 20, ("PUT", "/v1/blobs/" + "0" * 64 + "/0"): 1 << 20, ("GET", "/v1/pool"): 0}
        for (method, path), bound in bounds.items():
            with self.subTest(path):
                connection = self.pool.connect()
                body = b"x" * (bound + 1)
                self.refused(connection.request(method, path, body, {"Host": "a", "Content-Length": str(len(body))}),
                             413, "too_large")
                self.assertTrue(connection.closed())
        connection = self.pool.connect()
        answer = connection.request("POST", "/v1/leases", b"x" * (1 << 20))
        self.refused(answer, 401, "signature_missing")
        self.assertEqual(connection.get("/v1/pool")[0], 200, "the connection goes on")

    def test_expect_continue(self):
        connection = self.pool.connect()
        connection.send(b"POST /v1/leases HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        self.assertEqual(connection.response(), (100, {}, b""))
        connection.send(b"{}")
        self.refused(connection.response(), 401, "signature_missing")

    def test_slow(self):
        """Half a handshake, half a header, half a body: each ends by itself."""
        raw = socket.create_connection((self.pool.host, self.pool.port), timeout=10)
        self.addCleanup(raw.close)
        half = self.pool.connect().send(b"GET /v1/pool HTTP/1.1\r\nHost: 127")
        body = self.pool.connect().send(b"POST /v1/leases HTTP/1.1\r\n" + HOST + b"Content-Length: 1000\r\n\r\n{")
        begin = time.monotonic()
        self.assertEqual(raw.recv(1), b"")
        self.assertTrue(half.closed())
        self.assertTrue(body.closed())
        self.assertLess(time.monotonic() - begin, 6)

    def test_trickle(self):
        """A byte now and then does not keep a header open."""
        connection = self.pool.connect()
        begin = time.monotonic()
        with self.assertRaises((BrokenPipeError, ConnectionResetError, ssl.SSLError)):
            for byte in b"GET /v1/pool HTTP/1.1\r\n" + b"A: b\r\n" * 1000:
                connection.send(bytes([byte]))
                time.sleep(0.1)
        self.assertLess(time.monotonic() - begin, 6)

    def test_half_closed(self):
        """A client that has said all it has to say gets its answer; one that stops in the middle gets none."""
        request = b"GET /v1/pool HTTP/1.1\r\n" + HOST + b"\r\n"
        for length in range(len(request) + 1):
            connection = self.pool.connect()
            if length:
                connection.send(request[:length])
            socket.socket.shutdown(connection.socket, socket.SHUT_WR)  # of TCP; TLS says nothing
            answer = connection.response()
            self.assertEqual(answer and answer[0], 200 if length == len(request) else None, length)
            self.assertTrue(connection.closed())
            connection.close()

    def test_tls_versions(self):
        def context(version):
            tls = ssl.create_default_context(cafile=self.pool.sandbox.ca)
            tls.minimum_version = tls.maximum_version = version
            tls.set_ciphers("DEFAULT:@SECLEVEL=0")
            return tls
        for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
            with self.subTest(version), self.assertRaisesRegex(ssl.SSLError, "ALERT_PROTOCOL_VERSION"):
                self.pool.tls(context(version))
        for version, name in ((ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")):
            with self.subTest(version):
                connection = Connection(self.pool.tls(context(version)))
                self.assertEqual(connection.socket.version(), name)
                self.assertEqual(connection.get("/v1/pool")[0], 200)

    def test_weak_cipher(self):
        tls = ssl.create_default_context(cafile=self.pool.sandbox.ca)
        tls.maximum_version = ssl.TLSVersion.TLSv1_2
        tls.set_ciphers("ECDHE-ECDSA-AES128-SHA256:AES128-SHA:@SECLEVEL=0")
        with self.assertRaisesRegex(ssl.SSLError, "ALERT_HANDSHAKE_FAILURE"):
            self.pool.tls(tls)

    def test_plain_http(self):
        raw = Connection(socket.create_connection((self.pool.host, self.pool.port), timeout=10))
        status, _, body = raw.get("/v1/pool")
        self.assertEqual(status, 400)
        self.assertIn(b"https://", body)

    def test_curl(self):
        done = harness.run(["curl", "-sS", "--fail", "--cacert", self.pool.sandbox.ca, self.pool.url + "/v1/pool"])
        self.assertEqual(json.loads(done.stdout)["pool_id"], self.pool.client().info["pool_id"])


class Errors(Served):
    """Each error of section 2.1 at HTTP level; the pool's own rules have their tests elsewhere."""

    def test_paths(self):
        connection = self.pool.connect()
        for path in ("/v1/pool?x=1", "/v1/%70ool", "/v1/jobs/UPPER", "/v1/blobs/" + "A" * 64, "/v1/blobs/" + "0" * 63,
                     "/v1/settlements/" + "0" * 64 + "/-1", "/v1/settlements/" + "0" * 64 + "/01",
                     "/v1/settlements/" + "0" * 64 + "/9223372036854775808", "/v1/jobs/tiny/records/x"):
            with self.subTest(path):
                self.assertEqual(self.refused(connection.get(path), 400, "bad_request")["code"], 1000)
        for path in ("/", "/v1", "/v1/", "/v1/pool/", "//v1/pool", "/v1/jobs/none", "/v1/blobs/" + "0" * 64,
                     "/v1/jobs/tiny/records/7", "/v1/../v1/pool"):
            with self.subTest(path):
                self.assertEqual(self.refused(connection.get(path), 404, "not_found")["code"], 1004)
        answer = connection.get("/v1/leases")
        self.assertEqual(self.refused(answer, 405, "method_not_allowed")["code"], 1005)
        self.assertEqual(answer[1]["allow"], "POST")

    def test_json(self):
        rig = self.pool.rig()
        for body in (b"", b"{", b"[]", b'{"a":1,"a":2}', b'{"a":' + b"[" * 17 + b"]" * 17 + b"}", b"\xff", b"{} x"):
            with self.subTest(body):
                self.assertEqual(self.refused(self.signed(rig, "POST", "/v1/leases", body), 400, "bad_json")["code"], 1002)
        error = self.refused(self.signed(rig, "POST", "/v1/leases", b'{"request_id":7}'), 400, "bad_member")
        self.assertEqual(error["code"], 1003)
        self.assertIn("request_id", error["message"])

    def test_signatures(self):
        rig = self.pool.rig()
        body = {"reason": "x"}
        path = "/v1/leases/" + "0" * 32 + "/release"

        def case(status, name, edit=lambda headers: None, client=rig, **sign):
            with self.subTest(name):
                return self.refused(self.signed(client, "POST", path, body, edit, **sign), status, name)
        for header in ("Signature", "Signature-Input", "Content-Digest"):
            case(401, "signature_missing", lambda h, header=header: h.pop(header))
        case(401, "signature_malformed", lambda h: h.update({"Signature-Input": h["Signature-Input"] + ";x=1"}))
        case(401, "signature_malformed", lambda h: h.update({"signature": h["Signature"]}))  # twice
        case(401, "signature_invalid", lambda h: h.update({"Host": "elsewhere.example"}))
        case(401, "signature_invalid",
             lambda h: h.update({"Signature": "sig1=:" + base64.b64encode(bytes(64)).decode() + ":"}))
        case(400, "content_digest_mismatch", lambda h: h.update({"Content-Length": "1"}))
        error = case(401, "clock_skew", created=int(time.time()) + 1000, expires=int(time.time()) + 1060)
        self.assertAlmostEqual(error["pool_time"], time.time(), delta=5)
        case(401, "wrong_pool", tag="0" * 64)
        case(401, "unknown_key", client=self.pool.client())
        parts = rig.parts("POST", path, body)
        connection = self.pool.connect()
        self.refused(connection.request(*parts), 404, "lease_unknown")
        self.refused(connection.request(*parts), 401, "nonce_replayed")

    def test_keys(self):
        rig = self.pool.rig("revoked-rig")
        self.pool.pool.cli("rig", "revoke", rig.public)
        self.assertEqual(rig.lease()[0], 403)
        self.assertEqual(rig.lease()[1]["error"]["code"], 1108)
        first = self.pool.rig("cloned-rig")
        first.lease()
        clone = self.pool.client(first.key)
        status, answer = clone.lease()
        self.assertEqual(status, 200)
        lease = answer["lease"]
        status, answer = first.lease()
        self.assertEqual((status, answer["error"]["code"]), (409, 1109))
        if lease:
            clone.call("POST", f"/v1/leases/{lease['lease']}/release", {"reason": "for the other tests"})

    def test_enrolment(self):
        client = self.pool.client()
        for account, token, code, status in (("nobody", self.pool.token, 1200, 403), ("alice", "wrong", 1201, 403)):
            answer = client.enrol(account, token, "rig-x")
            self.assertEqual((answer[0], answer[1]["error"]["code"]), (status, code))
        rig = self.pool.rig("taken-rig")
        answer = rig.enrol("bob", self.pool.pool.account("bob"), "taken-rig")
        self.assertEqual((answer[0], answer[1]["error"]["code"]), (409, 1202))
        answer = client.call("POST", "/v1/rigs", {"account": "alice", "token": self.pool.token, "rig_id": "old",
                                                  "agent": "gradminer/0.0.1"})
        self.assertEqual((answer[0], answer[1]["error"]["code"]), (426, 1203))
        self.assertEqual(answer[1]["error"]["minimum"], client.info["minimum_agent"])

    def test_work(self):
        rig = self.pool.rig("worker")
        lease = rig.leased()

        def code(answer):
            return answer[0], answer[1]["error"]["code"]
        unit = lease["unit"]
        result = wire.random_result("fp32", unit["parameters"])
        digest = wire.sha256(result)
        self.assertEqual(code(rig.call("POST", "/v1/leases/" + "0" * 32 + "/renewal", {"progress": 0.5})), (404, 1300))
        self.assertEqual(code(rig.call("PUT", f"/v1/blobs/{digest}/0", b"")), (400, 1000))
        status, answer = rig.call("PUT", f"/v1/blobs/{digest}/5", b"abc")
        self.assertEqual((status, answer["error"]["code"], answer["error"]["offset"]), (409, 1401, 0))
        self.assertEqual(code(rig.call("PUT", f"/v1/blobs/{digest}/{unit['max_result_bytes'] * 100}", b"abc"))[0] // 100, 4)
        submission = {"lease": lease["lease"], "unit": unit["unit"], "attempt": lease["attempt"], "outcome": "done",
                      "result": {"digest": digest, "bytes": len(result)}, "segments_root": wire.EMPTY_DIGEST,
                      "loss": 5.0, "tokens": unit["tokens"], "seconds": 1.0}
        self.assertEqual(code(rig.call("POST", "/v1/submissions", submission)), (409, 1403))
        status, answer = rig.call("PUT", f"/v1/blobs/{digest}/0", result[:100])
        self.assertEqual((status, answer), (200, {"offset": 100}))
        wrong = bytes(len(result))
        self.assertEqual(rig.call("PUT", f"/v1/blobs/{digest}/100", wrong[100:])[0], 200)
        self.assertEqual(code(rig.call("POST", "/v1/submissions", submission)), (422, 1402))
        self.assertEqual(code(rig.submit(lease, b"x" * len(result), wire.EMPTY_DIGEST)), (422, 1302))
        too_long = b"y" * (unit["max_result_bytes"] + 1)
        answers = [rig.call("PUT", f"/v1/blobs/{wire.sha256(too_long)}/{at}", too_long[at:at + (1 << 20)])
                   for at in range(0, len(too_long), 1 << 20)]
        for at in range(8):  # whatever slack a rig has, it ends
            if answers[-1][0] != 200:
                break
            more = os.urandom(1 << 20)
            answers.append(rig.call("PUT", f"/v1/blobs/{wire.sha256(more)}/0", more))
        self.assertEqual(code(answers[-1]), (413, 1400))
        status, receipt = rig.submit(lease, result, wire.EMPTY_DIGEST)
        self.assertEqual(status, 200, receipt)
        self.assertEqual(rig.call("POST", "/v1/submissions", submission)[1], receipt, "byte for byte")
        submission["result"]["digest"] = wire.sha256(b"other")
        self.assertEqual(code(rig.call("POST", "/v1/submissions", submission)), (409, 1301))
        harness.wait_for("the log of the round", lambda: "round closed" in self.pool.log(), 10)
        log = self.pool.log()
        self.assertIn("rig joined", log)
        self.assertIn("bad_result", log)
        settlements = self.pool.connect().get(f"/v1/settlements/{rig.public}/0")
        self.assertEqual(settlements[0], 200)

    def test_ranges(self):
        connection = self.pool.connect()
        document = json.loads(json.loads(connection.get("/v1/jobs/tiny")[2])["document"])
        blob = document["initial_weights"]
        path, size = "/v1/blobs/" + blob["digest"], blob["bytes"]
        status, headers, whole = connection.get(path)
        self.assertEqual((status, len(whole), wire.sha256(whole)), (200, size, blob["digest"]))
        self.assertEqual(headers["accept-ranges"], "bytes")
        for text, first, last in ((f"bytes=0-", 0, size - 1), ("bytes=7-", 7, size - 1), ("bytes=5-9", 5, 9),
                                  (f"bytes={size - 1}-", size - 1, size - 1), ("bytes=3-99999999999", 3, size - 1)):
            with self.subTest(text):
                status, headers, part = connection.get(path, Range=text)
                self.assertEqual((status, headers["content-range"]), (206, f"bytes {first}-{last}/{size}"))
                self.assertEqual(part, whole[first:last + 1])
        status, headers, part = connection.get(path, Range=f"bytes={size}-")
        self.assertEqual((status, headers["content-range"]), (416, f"bytes */{size}"))
        error = json.loads(part)["error"]
        self.assertEqual((error["code"], error["name"]), (1000, "bad_request"))
        self.assertEqual(connection.get(path, Range="bytes=5-9")[2], whole[5:10], "the connection goes on")
        for text in ("bytes=-5", "bytes=0-1,3-4", "lines=1-2", "bytes=9-5", "bytes=a-"):
            with self.subTest(text):
                self.assertEqual(connection.get(path, Range=text)[0], 200, "a range that is not understood is ignored")
        target = self.pool.sandbox.folder / "resumed"
        target.write_bytes(whole[:1000])
        harness.run(["curl", "-sS", "--fail", "--cacert", self.pool.sandbox.ca, "-C", "-", "-o", target, self.pool.url + path])
        self.assertEqual(target.read_bytes(), whole)

    def test_z_internal(self):
        """A broken store: 1900 with a request id, nothing of the reason outside, all of it in the log."""
        rig = self.pool.rig("last")
        database = sqlite3.connect(self.pool.pool.data / "gradpool.db")
        database.execute("ALTER TABLE leases RENAME TO gone")
        database.commit()
        try:
            answer = self.signed(rig, "POST", "/v1/leases/" + "0" * 32 + "/release", {"reason": "x"})
            error = self.refused(answer, 500, "internal")
            self.assertEqual(error["code"], 1900)
            self.assertNotIn("leases", error["message"])
            self.assertIn(f"request={error['request']} ", self.pool.log())
            self.assertIn("no such table", self.pool.log())
            with self.assertRaises(urllib.error.HTTPError) as health:
                harness.wait_for("the failure", lambda: not urllib.request.urlopen(self.pool.status_url + "/healthz"), 5)
            self.assertEqual(health.exception.code, 503)
        finally:
            database.execute("ALTER TABLE gone RENAME TO leases")
            database.commit()
            database.close()
        harness.wait_for("the pool to recover", lambda: "works again" in self.pool.log(), 10)


class Limits(Served):
    flags = ("--workers", "1", "--max-queue", "2", "--requests-per-key", "1", "--max-connections-per-address", "12")

    def test_rate(self):
        rig = self.pool.rig("eager")
        connection = self.pool.connect()
        answers = [connection.request(*rig.parts("POST", "/v1/leases/" + "0" * 32 + "/release", {"reason": "x"}))
                   for _ in range(15)]
        self.assertEqual(answers[0][0], 404)
        self.assertEqual(self.refused(answers[-1], 429, "rate_limited")["code"], 1600)
        self.assertEqual(answers[-1][1]["retry-after"], "1")
        self.assertEqual(self.pool.rig("calm").lease()[0], 200, "another key is served")

    def test_queue(self):
        """With a store that is locked requests wait; beyond the queue they are told so at once."""
        rig = self.pool.rig("queued")
        database = sqlite3.connect(self.pool.pool.data / "gradpool.db", isolation_level=None)
        database.execute("BEGIN IMMEDIATE")
        answers = []

        def ask():
            connection = self.pool.connect()
            answers.append(connection.request(*rig.parts("POST", "/v1/leases/" + "0" * 32 + "/release", {"reason": "x"})))
            connection.close()
        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        harness.wait_for("4 refusals", lambda: len(answers) == 4, 4)
        database.execute("ROLLBACK")
        for thread in threads:
            thread.join()
        self.assertEqual(sorted(a[0] for a in answers), [404, 404, 503, 503, 503, 503])
        for answer in answers[:4]:
            self.assertEqual(self.refused(answer, 503, "overloaded")["code"], 1601)
            self.assertEqual(answer[1]["retry-after"], "1")

    def test_connections(self):
        harness.wait_for("those of other tests to be gone", lambda: self.pool.connections() == 0, 20)
        connections = [self.pool.connect() for _ in range(12)]
        with self.assertRaises((ConnectionResetError, ssl.SSLError, OSError)):
            self.pool.connect()
        for connection in connections:
            self.assertEqual(connection.get("/v1/pool")[0], 200)
            connection.close()
        harness.wait_for("room again", self.pool.connects, 5)


class FewConnections(Served):
    job = False
    flags = ("--max-connections", "3")

    def test_connections(self):
        """All addresses together; a connection that ends makes room, and the status listener has its own."""
        connections = [self.pool.connect() for _ in range(3)]
        self.assertFalse(self.pool.connects())
        self.assertEqual(self.pool.connections(), 3)
        for connection in connections:
            self.assertEqual(connection.get("/v1/pool")[0], 200)
            connection.close()
        harness.wait_for("room again", self.pool.connects, 5)


class BusyQueue(Served):
    flags = ("--workers", "1", "--max-queue", "4")

    def test_finished_work_goes_first(self):
        """Requests for new work fill half of the queue, and no more than that."""
        rig = self.pool.rig("queued")
        lease = {"request_id": "0" * 32, "instance": rig.instance, "agent": "gradminer/0.1.0", "profiles": [], "codecs": [],
                 "kinds": [], "memory_bytes": 1, "flops": 1, "held": []}
        leases, submissions = [], []

        def ask(answers, path, body):
            answers.append(self.signed(rig, "POST", path, body))

        def start(answers, *request):
            threads.append(threading.Thread(target=ask, args=(answers, *request)))
            threads[-1].start()
        threads = []
        database = sqlite3.connect(self.pool.pool.data / "gradpool.db", isolation_level=None)
        database.execute("BEGIN IMMEDIATE")  # whoever writes waits, at most 10 s
        try:
            for _ in range(3):
                start(leases, "/v1/leases", lease)
            harness.wait_for("a lease request to be refused", lambda: leases, 5)
            for _ in range(3):
                start(submissions, "/v1/leases/" + "0" * 32 + "/release", {"reason": "x"})
            harness.wait_for("a release to be refused", lambda: submissions, 4)
            self.refused(leases[0], 503, "overloaded")
            self.refused(submissions[0], 503, "overloaded")
        finally:
            database.execute("ROLLBACK")
            for thread in threads:
                thread.join()
        self.assertEqual([sorted(a[0] for a in answers) for answers in (leases, submissions)],
                         [[200, 200, 503], [404, 404, 503]])


class AddressLimit(Served):
    job = False
    flags = ("--requests-per-address", "1")

    def test_rate(self):
        connection = self.pool.connect()
        answers = [connection.get("/v1/pool") for _ in range(15)]
        self.assertEqual(answers[0][0], 200)
        self.assertEqual(self.refused(answers[-1], 429, "rate_limited")["code"], 1600)
        with urllib.request.urlopen(self.pool.status_url + "/healthz") as health:
            self.assertEqual(health.status, 200, "the status listener has no such limit")


class Signals(Served):
    job = False

    def serial(self):
        sock = self.pool.tls()
        certificate = x509.load_der_x509_certificate(sock.getpeercert(binary_form=True))
        sock.close()
        return certificate.serial_number

    def reload_failed(self):
        with urllib.request.urlopen(self.pool.status_url + "/metrics") as answer:
            return "\ngradpool_certificate_reload_failed 1\n" in answer.read().decode()

    def test_reload(self):
        before = self.serial()
        kept = self.pool.connect()
        self.assertEqual(kept.get("/v1/pool")[0], 200)
        certificate, key = self.pool.sandbox.certificate()
        shutil.copy(certificate, self.pool.pool.certificate)
        shutil.copy(key, self.pool.pool.key)
        self.pool.process.popen.send_signal(harness.signal.SIGHUP)
        harness.wait_for("the new certificate", lambda: self.serial() != before, 5)
        self.assertEqual(kept.get("/v1/pool")[0], 200, "open connections go on")
        now = self.serial()
        self.pool.pool.certificate.write_text("nonsense")
        self.pool.process.popen.send_signal(harness.signal.SIGHUP)
        harness.wait_for("the complaint", lambda: "old certificate stays in use" in self.pool.log(), 5)
        self.assertEqual(self.serial(), now)
        harness.wait_for("the metric", self.reload_failed, 5)
        other, _ = self.pool.sandbox.certificate()
        shutil.copy(other, self.pool.pool.certificate)  # not of this key
        self.pool.process.popen.send_signal(harness.signal.SIGHUP)
        harness.wait_for("the complaint", lambda: "does not match --certificate" in self.pool.log(), 5)
        self.assertEqual(self.serial(), now)
        shutil.copy(certificate, self.pool.pool.certificate)
        self.pool.process.popen.send_signal(harness.signal.SIGHUP)
        harness.wait_for("the metric to fall", lambda: not self.reload_failed(), 5)
        self.assertEqual(self.serial(), now)

    def test_z_stop(self):
        """SIGTERM: idle connections are closed, the exit is clean and quick, serve.json is gone."""
        idle = self.pool.connect()
        self.assertEqual(idle.get("/v1/pool")[0], 200)
        half = self.pool.connect()
        half.send(b"POST /v1/leases HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        self.assertEqual(half.response()[0], 100)  # the server has seen the half request
        begin = time.monotonic()
        self.pool.process.popen.send_signal(harness.signal.SIGTERM)
        harness.wait_for("connections to be refused", lambda: not self.pool.connects(), 5)
        half.send(b"{}")
        status, headers, _ = half.response()
        self.assertEqual((status, headers["connection"]), (401, "close"), "what has begun is answered")
        self.assertEqual(self.pool.process.wait(6), 0)
        self.assertLess(time.monotonic() - begin, 5)
        self.assertFalse((self.pool.pool.data / "serve.json").exists())
        self.assertTrue(idle.closed())


class Command(unittest.TestCase):
    """What `gradpool serve` says about mistakes, and to those who wait for it."""

    @classmethod
    def setUpClass(cls):
        cls.pool = ServedPool(job=False)

    @classmethod
    def tearDownClass(cls):
        cls.pool.stop()

    def serve(self, code, *words, data="other", **flags):
        pool = self.pool.pool
        values = {"listen": "127.0.0.1:0", "certificate": pool.certificate, "private-key": pool.key,
                  "status-listen": "127.0.0.1:0", **{k.replace("_", "-"): v for k, v in flags.items()}}
        argv = [harness.binary("gradpool"), "--data", self.pool.sandbox.folder / data, "serve"]
        for flag, value in values.items():
            argv += [] if value is None else [f"--{flag}", value]
        done = harness.run(argv, expect=code, timeout=20)
        for word in words:
            self.assertIn(str(word), done.stderr)
        return done

    def test_addresses(self):
        taken = f"127.0.0.1:{self.pool.port}"
        self.serve(6, taken, "another process", listen=taken)
        self.serve(6, taken, "another process", status_listen=taken)
        self.serve(2, "HOST:PORT", listen="8443")
        self.serve(2, "HOST:PORT", listen="127.0.0.1:99999")
        self.serve(6, "192.0.2.1", listen="192.0.2.1:0")
        self.serve(3, "--status-public", status_listen="0.0.0.0:0")

    def test_certificates(self):
        folder = self.pool.sandbox.folder
        _, other = self.pool.sandbox.certificate()
        self.serve(3, "--certificate", "No such file", certificate=folder / "none.pem")
        self.serve(3, "--private-key", "No such file", private_key=folder / "none.pem")
        self.serve(3, "does not match --certificate", private_key=other)
        self.serve(3, "not a PEM certificate", certificate=other)
        self.serve(3, "unencrypted PEM private key", private_key=self.pool.pool.certificate)
        locked = folder / "locked.key"
        harness.run(["openssl", "ec", "-in", other, "-aes256", "-passout", "pass:secret", "-out", locked])
        self.serve(3, "unencrypted PEM private key", private_key=locked)

    def test_missing_flags(self):
        self.serve(2, "--listen", listen=None)
        self.serve(2, "--certificate", certificate=None)
        self.serve(2, "--private-key", private_key=None)

    def test_folder(self):
        self.serve(4, "is served already", self.pool.pool.data, data=self.pool.pool.data)
        (self.pool.sandbox.folder / "file").write_text("")
        self.serve(4, "file/pool", data="file/pool")

    def test_damaged_store(self):
        """What a job needs and nothing can make again must be there before anything is served."""
        broken = harness.Pool(self.pool.sandbox, "broken")
        broken.dataset("text", harness.generated_text(20000))
        weights = broken.job("tiny", "text", rounds=1, context=32)["weights"]
        (broken.data / "blobs" / weights[:2] / weights).unlink()
        self.serve(4, "the weights of round 0 of job tiny", weights, "restore --from", data=broken.data)
        self.assertFalse((broken.data / "serve.json").exists())

    def test_older_store(self):
        """A store of schema 1 is brought up to date, with a copy of its database, and served."""
        old = harness.Pool(self.pool.sandbox, "old")
        harness.make_store_1(old.data)
        old.cli("job", "list", expect=4)  # only serve does it
        old.start()
        self.assertIn("the store was brought up to date", old.server.log())
        self.assertTrue((old.data / "gradpool.db.schema-1").exists())
        self.assertEqual((old.show("tiny")["rounds_done"], old.record("tiny", 0)["round"]), (1, 0))
        self.assertEqual(old.server.stop(), 0)

    def test_config(self):
        file = self.pool.sandbox.folder / "serve.config.json"

        def config(text):
            file.write_text(text if isinstance(text, str) else json.dumps(text))
            return file
        self.serve(3, "unknown key", "lissen", config=config({"lissen": "x"}))
        self.serve(3, "not a JSON object", config=config("{"))
        self.serve(3, "No such file", config="/nonexistent.json")
        self.serve(3, "max-queue", config=config({"max-queue": "many"}))
        self.serve(3, "listen", config=config({"listen": []}), listen=None)
        taken = f"127.0.0.1:{self.pool.port}"
        self.serve(6, taken, config=config({"listen": taken, "max-queue": 5, "json": False}), listen=None)
        self.serve(2, "HOST:PORT", config=config({"listen": taken}), listen="nonsense")  # the flag goes first

    def test_json_log_and_notify(self):
        address = str(self.pool.sandbox.folder / "notify.sock")
        notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notified.bind(address)
        notified.settimeout(10)
        self.addCleanup(notified.close)
        second = ServedPool.__new__(ServedPool)
        second.sandbox, second.pool = self.pool.sandbox, harness.Pool(self.pool.sandbox, "second")
        second.start("--json", env={"NOTIFY_SOCKET": address})
        self.assertEqual(notified.recv(100), b"READY=1")
        token = second.pool.account("carol")
        second.token = token
        second.rig("rig.with-odd_name", "carol")
        harness.wait_for("the rig in the log", lambda: "rig joined" in second.log(), 5)
        self.assertEqual(second.process.stop(), 0)
        lines = [json.loads(line) for line in second.log().splitlines()]
        joined = next(line for line in lines if line["event"] == "rig joined")
        self.assertEqual((joined["rig"], joined["account"], joined["level"]), ("rig.with-odd_name", "carol", "info"))
        self.assertRegex(joined["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertEqual(lines[-1]["event"], "stopped")


if __name__ == "__main__":
    unittest.main(verbosity=2)
