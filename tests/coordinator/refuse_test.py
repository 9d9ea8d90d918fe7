"""What an attacker sends over the wire, and the numeric error that each attempt gets: the table of docs/security.md."""

import base64
import itertools
import json
import pathlib
import re
import struct
import time
import unittest

from http_pool import Client, Served, ServedPool, harness, wire
from http_test import HOST

ZERO = "0" * 64
RELEASE = ("POST", "/v1/leases/" + "0" * 32 + "/release", b'{"reason":"x"}')
NAN, INFINITY = struct.pack("<I", 0x7fc00000), struct.pack("<f", float("inf"))


def answer_of(response):
    """(HTTP status, error code) of a Connection's response or of wire.Client's answer."""
    if response is None:
        return None
    error = (json.loads(response[2]) if len(response) == 3 else response[1]).get("error", {})
    return response[0], error.get("code")


class Refusals(Served):
    def check(self, expected, response, name):
        with self.subTest(name):
            self.assertEqual(answer_of(response), expected, response)

    def files(self):
        return sorted(str(path.relative_to(self.pool.sandbox.folder)) for path in self.pool.sandbox.folder.rglob("*")
                      if not path.name.startswith("gradpool.db"))

    def memory(self):
        """The largest memory of the pool so far, in bytes; 0 under a sanitizer, which keeps what is freed."""
        program = pathlib.Path(harness.binary("gradpool")).read_bytes()
        if b"__asan_init" in program or b"__tsan_init" in program:
            return 0
        status = pathlib.Path(f"/proc/{self.pool.process.popen.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


class Signatures(Refusals):
    """Each against a request that would be `lease_unknown` if its signature were good."""

    job = False

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.rig, cls.other = cls.pool.rig("one"), cls.pool.rig("two")

    def attempt(self, expected, name, client=None, edit=lambda headers: None, **sign):
        self.check(expected, self.signed(client or self.rig, *RELEASE, edit, **sign), name)

    def malformed(self, name, edit=lambda headers: None, **sign):
        self.attempt((401, 1101), name, edit=edit, **sign)

    def input_edit(self, old, new):
        def edit(headers):
            changed = re.sub(old, new, headers["Signature-Input"], count=1)
            assert changed != headers["Signature-Input"], old
            headers["Signature-Input"] = changed
        return edit

    def test_good(self):
        self.attempt((404, 1300), "a good signature gets as far as the lease")

    def test_wrong_key(self):
        impostor = self.pool.client()
        impostor.public = self.rig.public
        self.attempt((401, 1102), "an enrolled key's name, signed by another key", impostor)
        self.attempt((401, 1102), "another rig's name", keyid=self.other.public)
        self.attempt((401, 1107), "a key that nobody enrolled", self.pool.client())
        self.attempt((401, 1102), "the key of no point", keyid="f" * 64)
        for size in (0, 63, 65):
            self.malformed(f"bytes of key: {size}", keyid="a" * size)
        self.malformed("a key in capitals", keyid=self.rig.public.upper())

    def test_revoked_key(self):
        gone = self.pool.rig("gone")
        self.pool.pool.cli("rig", "revoke", gone.public)
        self.attempt((403, 1108), "revoked", gone)
        self.assertEqual(answer_of(gone.enrol("alice", self.pool.token, "gone")), (403, 1108), "nor enrolled again")

    def test_altered_body(self):
        def send(changed, edit=lambda headers: None):
            method, path, _, headers = self.rig.parts(*RELEASE, edit)
            return self.pool.connect().request(method, path, changed, headers)
        changed = RELEASE[2].replace(b"x", b"y")
        digest = wire.content_digest(changed)
        self.check((400, 1103), send(changed), "another body")
        self.check((401, 1102), send(changed, lambda h: h.update({"Content-Digest": digest})), "and its digest")

    def test_altered_signed_header(self):
        def flip(headers):
            signature = bytearray(base64.b64decode(headers["Signature"][6:-1]))
            signature[at] ^= 1
            headers["Signature"] = "sig1=:" + base64.b64encode(signature).decode() + ":"
        for at in (0, 31, 32, 63):
            self.attempt((401, 1102), f"byte {at} of the signature", edit=flip)
        self.attempt((401, 1102), "Host", edit=lambda h: h.update({"Host": "pool.example"}))
        for name, old, new in (("created", r"created=(\d+)\d", r"created=\g<1>0"), ("expires", r"expires=(\d+)\d", r"expires=\g<1>1"),
                               ("nonce", r'nonce="..', 'nonce="00')):
            self.attempt((401, 1102), name, edit=self.input_edit(old, new), created=int(time.time()) // 10 * 10 + 1 - 10,
                         expires=int(time.time()) // 10 * 10 + 60, nonce="ab" * 16)
        for name, signed in (("method", ("PUT", *RELEASE[1:])), ("path", ("POST", "/v1/leases/" + "0" * 32 + "/renewal", RELEASE[2]))):
            _, _, body, headers = self.rig.parts(*signed)
            self.check((401, 1102), self.pool.connect().request(*RELEASE[:2], body, headers), name)

    def test_covered_components(self):
        for missing in wire.COVERED:
            self.malformed(f"without {missing}", components=[c for c in wire.COVERED if c != missing])
        self.malformed("without any", components=[])
        for extra in ("content-length", "@scheme", "@method"):
            self.malformed(f"with {extra} too", components=[*wire.COVERED, extra])
        for order in itertools.permutations(wire.COVERED):
            if order != wire.COVERED:
                self.malformed(order, components=order)

    def test_parameters(self):
        for name in ("created", "expires", "nonce", "keyid", "alg", "tag"):
            self.malformed(f"without {name}", self.input_edit(rf';{name}=("[^"]*"|\d+)', ""))
            self.malformed(f"{name} twice", self.input_edit(rf'(;{name}=("[^"]*"|\d+))', r"\1\1"))
        self.malformed("one more", extra="x")
        self.malformed("another order", self.input_edit(r'(;nonce="\w+")(;keyid="\w+")', r"\2\1"))
        self.malformed("another algorithm", alg="hmac-sha256")
        self.malformed("another label", self.input_edit("sig1", "sig2"))
        self.malformed("a second signature", lambda h: h.update({"Signature": h["Signature"] + ", sig2=:AAAA:"}))
        self.malformed("a space", self.input_edit(";created", "; created"))
        for nonce in ("", "a" * 31, "a" * 33, "A" * 32, "../" + "a" * 29):
            self.malformed(f"nonce {nonce}", nonce=nonce)
        for digest in ("md5=:AAAA:", "sha-256=:AAAA:", "sha-256=AAAA", "SHA-256=:" + "A" * 43 + "=:"):
            self.malformed(f"Content-Digest {digest}", lambda h, digest=digest: h.update({"Content-Digest": digest}))
        for header in ("Signature", "Signature-Input", "Content-Digest"):
            self.attempt((401, 1100), f"no {header}", edit=lambda h, header=header: h.pop(header))
            self.malformed(f"{header} twice", lambda h, header=header: h.update({header.lower(): h[header]}))

    def test_replayed_nonce(self):
        """Also with another content, on another path, and after the pool has been started again."""
        first = self.rig.parts(*RELEASE)
        self.check((404, 1300), self.pool.connect().request(*first), "once")
        self.check((401, 1105), self.pool.connect().request(*first), "twice")
        nonce = re.search(r'nonce="(\w+)"', first[3]["Signature-Input"])[1]
        self.check((401, 1105), self.signed(self.rig, *RELEASE[:2], b'{"reason":"y"}', nonce=nonce), "another body")
        self.check((401, 1105), self.signed(self.rig, "POST", "/v1/leases", b"{}", nonce=nonce), "another path")
        self.check((404, 1300), self.signed(self.other, *RELEASE, nonce=nonce), "another key may use it")
        self.assertEqual(self.pool.process.stop(), 0)
        self.pool.start(port=self.pool.port)
        self.check((401, 1105), self.pool.connect().request(*first), "after a restart")

    def test_time(self):
        now = int(time.time())
        for name, created, expires in (("expired", now - 800, now - 500), ("long ago", 1, 300), ("of the future", now + 500, now + 800),
                                       ("of the far future", 9_999_999_000, 9_999_999_299)):
            self.attempt((401, 1104), name, created=created, expires=expires)
        for name, created, expires in (("a life of 301 s", now, now + 301), ("no life", now, now), ("backwards", now, now - 1),
                                       ("negative", -1, 200), ("overflow", 2**63, 2**63 + 1), ("more than 64 bits", 10**30, 10**30 + 1)):
            self.malformed(name, created=created, expires=expires)

    def test_another_pools_signature(self):
        """A request that one pool takes is nothing to another one, where the same key is enrolled."""
        pool = ServedPool(job=False)
        self.addCleanup(pool.stop)
        rig = Client(pool.url, pool.sandbox.ca, self.rig.key)
        self.assertEqual(rig.enrol("alice", pool.token, "one")[0], 200)
        parts = rig.parts(*RELEASE)
        self.check((401, 1106), self.pool.connect().request(*parts), "sent elsewhere")
        self.check((404, 1300), pool.connect().request(*parts), "its own pool")


class Results(Refusals):
    """A rig with one lease of an fp32 unit, and what it tries to pass off as a result."""

    def setUp(self):
        self.rig = self.pool.rig()
        self.lease = self.rig.leased()
        self.unit = self.lease["unit"]
        self.addCleanup(self.rig.call, "POST", f"/v1/leases/{self.lease['lease']}/release", {"reason": "the next test"})

    def submission(self, **changed):
        return {"lease": self.lease["lease"], "unit": self.unit["unit"], "attempt": self.lease["attempt"], "outcome": "done",
                "result": {"digest": ZERO, "bytes": 1}, "segments_root": ZERO, "loss": 5.0, "tokens": self.unit["tokens"],
                "seconds": 1.0, **changed}

    def put(self, name, offset, piece=b"abc"):
        return self.rig.call("PUT", f"/v1/blobs/{wire.sha256(name)}/{offset}", piece)

    def uploads(self):
        return sum(file.stat().st_size for file in (self.pool.pool.data / "uploads").iterdir())

    def test_lease_of_someone_else(self):
        thief = self.pool.rig("thief")
        path, good = f"/v1/leases/{self.lease['lease']}", wire.random_result("fp32", self.unit["parameters"])
        self.check((404, 1300), thief.call("POST", path + "/renewal", {"progress": 0.5}), "renewed")
        self.check((404, 1300), thief.call("POST", path + "/release", {"reason": "x"}), "given back")
        self.check((413, 1400), thief.submit(self.lease, good, wire.EMPTY_DIGEST), "uploaded for")
        self.check((404, 1300), thief.call("POST", "/v1/submissions", self.submission()), "submitted")
        self.check((404, 1300), self.rig.call("POST", "/v1/submissions", self.submission(attempt=self.lease["attempt"] + 1)), "attempt")
        self.check((404, 1300), self.rig.call("POST", "/v1/submissions", self.submission(lease="0" * 32)), "no lease")
        self.assertEqual(self.rig.call("POST", path + "/renewal", {"progress": 0.5})[0], 200, "the owner still has it")

    def test_second_result(self):
        first, second = (wire.random_result("fp32", self.unit["parameters"]) for _ in range(2))
        status, receipt = self.rig.submit(self.lease, first, wire.EMPTY_DIGEST)
        self.assertEqual(status, 200, receipt)
        submission = self.submission(result={"digest": wire.sha256(second), "bytes": len(second)}, segments_root=wire.EMPTY_DIGEST)
        self.check((409, 1301), self.rig.call("POST", "/v1/submissions", submission), "another result")
        self.assertEqual(self.rig.call("POST", "/v1/submissions", {**submission, "result": {
            "digest": wire.sha256(first), "bytes": len(first)}}), (200, receipt), "the first one stands")

    def test_values(self):
        good = wire.random_result("fp32", self.unit["parameters"])
        last = len(good) - 4
        for name, value in (("NaN", NAN), ("signalling NaN", struct.pack("<I", 0x7f800001)), ("infinity", INFINITY),
                            ("-infinity", struct.pack("<f", -float("inf"))), ("a norm beyond fp32", struct.pack("<f", 2e19))):
            for at in (32, 32 + (last - 32) // 8 * 4, last):
                self.check((422, 1302), self.rig.submit(self.lease, good[:at] + value + good[at + 4:], ZERO), f"{name} at {at}")

    def test_sizes(self):
        good = wire.random_result("fp32", self.unit["parameters"])
        count, payload = self.unit["parameters"], good[32:]

        def head(magic=b"GRADBLOB", version=1, kind=wire.RESULT, codec=1, zero=0, count=count, size=len(payload)):
            return struct.pack("<8sHHHHQQ", magic, version, kind, codec, zero, count, size)
        cases = {"one element less": head(count=count - 1, size=len(payload) - 4) + payload[4:], "no elements": head(count=0, size=0),
                 "count": head(count=count - 1) + payload, "huge count": head(count=2**62, size=0) + payload,
                 "count that wraps": head(count=2**62 + count) + payload, "payload size": head(size=2**64 - 32) + payload,
                 "cut": good[:-1], "header only": good[:32], "half a header": good[:31], "one byte": b"G",
                 "magic": head(magic=b"GRADBLOC") + payload, "version": head(version=2) + payload, "zero": head(zero=1) + payload,
                 "an update": head(kind=wire.UPDATE) + payload, "losses": head(kind=wire.LOSSES) + payload,
                 "codec": head(codec=2) + payload, "no codec": head(codec=9) + payload}
        for name, blob in cases.items():
            self.check((422, 1302), self.rig.submit(self.lease, blob, ZERO), name)
        self.assertEqual(self.rig.call("PUT", f"/v1/blobs/{wire.sha256(good)}/0", good)[0], 200)
        reference = {"digest": wire.sha256(good), "bytes": len(good)}
        for name, change, expected in (("tokens", {"tokens": self.unit["tokens"] + 1}, (422, 1302)),
                                       ("bytes", {"result": {**reference, "bytes": len(good) - 1}}, (409, 1403)),
                                       ("no bytes", {"result": {**reference, "bytes": 0}}, (400, 1003)),
                                       ("all bytes", {"result": {**reference, "bytes": 2**63 - 1}}, (400, 1003))):
            self.check(expected, self.rig.call("POST", "/v1/submissions", self.submission(**{"result": reference, **change})), name)

    def test_offsets(self):
        before = self.uploads()
        for offset in (self.unit["max_result_bytes"], self.unit["max_result_bytes"] - 2, 2**32, 2**62, 2**63 - 3, 2**63 - 1):
            self.check((413, 1400), self.put(b"far", offset), offset)
        for offset in (2**63, 2**64 - 1, 2**64, 2**64 + 1, 10**40, "-1", "+1", "01", "0x10", "1e3", "1.0", ""):
            self.check((400, 1000), self.put(b"far", offset), offset)
        self.check((409, 1401), self.put(b"far", 1), "a gap")
        self.assertEqual(self.uploads(), before)

    def test_longer_than_the_units_size(self):
        size, piece = self.unit["max_result_bytes"], self.rig.info["max_piece_bytes"]
        for offset in range(0, size, piece):
            length = min(piece, size - offset)
            self.assertEqual(self.put(b"long", offset, bytes(length)), (200, {"offset": offset + length}))
        self.check((413, 1400), self.put(b"long", size, b"x"), "one byte more")
        self.check((413, 1400), self.put(b"long", size - 1, b"xy"), "over the end")
        for i in range(20):  # as many uploads as it likes: old ones go
            self.put(b"many %d" % i, 0, bytes(min(piece, size)))
        self.assertLessEqual(self.uploads(), 4 * size)

    def test_leased_again_and_again(self):
        """A unit that is taken and given back many times allows no more uploads than one lease of it."""
        self.addCleanup(lambda: self.rig.call("POST", f"/v1/leases/{self.lease['lease']}/release", {"reason": "the next test"}))
        for i in range(20):
            self.assertEqual(self.rig.call("POST", f"/v1/leases/{self.lease['lease']}/release", {"reason": "again"})[0], 200)
            again = self.rig.leased()
            self.assertEqual(again["unit"]["unit"], self.unit["unit"])
            self.lease = again
            self.assertEqual(self.put(b"again %d" % i, 0)[0], 200)
        uploads = [file for file in (self.pool.pool.data / "uploads").iterdir() if file.name.startswith(self.rig.public)]
        self.assertEqual(len(uploads), 1 + 2)

    def test_numbers_of_a_submission(self):
        text = json.dumps(self.submission(loss=0.5))
        for loss, expected in (("NaN", (400, 1002)), ("Infinity", (400, 1002)), ("-Infinity", (400, 1002)), ("1e400", (400, 1002)),
                               ("1e39", (400, 1003)), ("0.1", (400, 1003)), ('"0.5"', (400, 1003)), ("null", (400, 1003))):
            body = text.replace('"loss": 0.5', f'"loss": {loss}').encode()
            self.check(expected, self.signed(self.rig, "POST", "/v1/submissions", body), loss)
        for seconds, expected in (("NaN", (400, 1002)), ("Infinity", (400, 1002)), ("-Infinity", (400, 1002)), ("1e400", (400, 1002)),
                                  ("1e13", (400, 1003)), ("-1", (400, 1003)), ('"1"', (400, 1003)), ("null", (400, 1003))):
            body = text.replace('"seconds": 1.0', f'"seconds": {seconds}').encode()
            self.check(expected, self.signed(self.rig, "POST", "/v1/submissions", body), f"seconds {seconds}")


class Losses(Refusals):
    """The same for an evaluation."""

    def test_values_and_counts(self):
        rig = self.pool.rig()
        lease = rig.leased(("evaluate",))
        unit = lease["unit"]
        blocks = -(-unit["batch"] // (1024 // unit["context"]))
        self.assertGreater(blocks, 1)
        leaves = [struct.pack("<f", 5.0 + i) for i in range(blocks)]
        mean = sum(5.0 + i for i in range(blocks)) / blocks

        def attempt(name, message, leaves, loss=mean, root_of=None, **changed):
            head = {"kind": wire.LOSSES, "codec": "fp32", "count": len(leaves), **changed}
            root = wire.merkle_root([bytes.fromhex(wire.merkle_root([leaf])) for leaf in root_of or leaves])
            answer = rig.submit(lease, wire.blob(payload=b"".join(leaves), **head), root, loss)
            self.check((422, 1302), answer, name)
            with self.subTest(name):
                self.assertIn(message, answer[1]["error"]["message"])
        for name, value in (("NaN", NAN), ("infinity", INFINITY), ("-infinity", struct.pack("<f", -float("inf")))):
            for at in (0, blocks - 1):
                attempt(f"{name} in block {at}", "not finite", leaves[:at] + [value] + leaves[at + 1:])
        for name, other in (("one loss less", leaves[:-1]), ("none", [])):
            attempt(name, "", other, root_of=leaves)
        more = wire.blob(wire.LOSSES, "fp32", blocks + 1, b"".join(leaves + leaves[:1]))
        self.check((413, 1400), rig.submit(lease, more, ZERO), "one loss more")
        attempt("another count", "", leaves, count=blocks + 1)
        attempt("a count that wraps", "", leaves, count=2**62 + blocks)
        attempt("a gradient", "", leaves, kind=wire.RESULT)
        attempt("another codec", "", leaves, codec="int4")
        attempt("another mean", "not the mean", leaves, loss=mean + 1)
        attempt("another root", "segments_root", leaves, root_of=leaves[::-1])
        status, answer = rig.evaluate(lease, 5.0)
        self.assertEqual(status, 200, answer)


class PackedResults(Refusals):
    """The same for int4, and for int8 below."""
    codec, lowest = "int4", b"\x88"

    @classmethod
    def setUpClass(cls):
        cls.pool = ServedPool(job=False)
        cls.pool.pool.dataset("text", harness.generated_text(20000))
        cls.pool.pool.job("packed", "text", rounds=5, units=1, lanes=1, steps=1, batch=4, context=32, codec=cls.codec,
                          outer="adamw", evaluate_every=1000, check_share=0)

    def test_values(self):
        rig = self.pool.rig()
        lease = rig.leased()
        count = lease["unit"]["parameters"]
        good = wire.random_result(self.codec, count)
        blocks = (count + 63) // 64
        for name, scale in (("NaN", NAN), ("infinity", INFINITY), ("negative", struct.pack("<f", -1)), ("-0", struct.pack("<f", -0.0)),
                            ("overflow", struct.pack("<f", 1e38))):
            for at in (32, 32 + 4 * (blocks - 1)):
                blob = good[:at] + scale + good[at + 4:]
                self.check((422, 1302), rig.submit(lease, blob, ZERO), f"scale {name} at {at}")
        at = 32 + 4 * blocks
        self.check((422, 1302), rig.submit(lease, good[:at] + self.lowest + good[at + 1:], ZERO), "the lowest digit, which none has")
        status, answer = rig.submit(lease, good, ZERO)
        self.assertEqual(status, 200, answer)


class ByteResults(PackedResults):
    """The same for int8."""
    codec, lowest = "int8", b"\x80"


class HostileJson(Refusals):
    job = False
    PATHS = ("/v1/rigs", "/v1/leases", "/v1/leases/" + "0" * 32 + "/renewal", "/v1/leases/" + "0" * 32 + "/release", "/v1/submissions")
    BODIES = {
        "17 levels": (1002, b'{"a":' * 17 + b"1" + b"}" * 17), "half a million levels": (1002, b'{"a":' + b"[" * 500_000),
        "a level a byte": (1002, b"[" * (1 << 20)), "keys twice": (1002, b'{"reason":"x","reason":"y"}'),
        "keys twice inside": (1002, b'{"a":{"b":1,"b":2}}'), "keys twice by escape": (1002, b'{"a":1,"\\u0061":2}'),
        "10^400": (1002, b'{"progress":1' + b"0" * 400 + b"}"), "1e400": (1002, b'{"progress":1e400}'),
        "a number of 1 MB": (1002, b'{"progress":' + b"9" * 1_000_000 + b"}"), "NaN": (1002, b'{"progress":NaN}'),
        "a lone surrogate": (1002, b'{"reason":"\\ud800"}'), "a lone low surrogate": (1002, b'{"reason":"\\udc00x"}'),
        "surrogates swapped": (1002, b'{"reason":"\\udc00\\ud800"}'), "a raw surrogate": (1002, b'{"reason":"\xed\xa0\x80"}'),
        "overlong UTF-8": (1002, b'{"reason":"\xc0\xaf"}'), "Latin-1": (1002, b'{"reason":"\xe4"}'), "UTF-16": (1002, '{"a":1}'.encode("utf-16")),
        "a NUL byte": (1002, b'{"reason":"x"}\0'), "a NUL byte inside": (1002, b'{"reason":"\0"}'),
        "something behind": (1002, b'{"reason":"x"}{}'), "a comment": (1002, b'{"reason":"x"/**/}'), "single quotes": (1002, b"{'reason':'x'}"),
        "cut": (1002, b'{"reason":"x"'), "nothing": (1002, b""), "no object": (1002, b'["x"]'), "null": (1002, b"null"),
        "nothing in it": (1003, b"{}"),
    }

    def test_everywhere(self):
        """One rig, five paths; the memory that the parser takes stays small."""
        rig = self.pool.rig()
        before = self.memory()
        for path in self.PATHS:
            for name, (code, body) in self.BODIES.items():
                self.check((400, code), self.signed(rig, "POST", path, body), (path, name))
        for reason in (b"\\u0000", b"\\u001b[2J", b"\\u009b2J", b"x" * 201):
            self.check((400, 1003), self.signed(rig, *RELEASE[:2], b'{"reason":"' + reason + b'"}'), reason)
        self.assertLess(self.memory() - before, 64 << 20)

    def test_names(self):
        """Path traversal in every identifier of a message."""
        rig = self.pool.rig()
        lease = {"request_id": "a" * 32, "instance": "a" * 32, "agent": "gradminer/0.1.0", "profiles": [], "codecs": [], "kinds": [],
                 "memory_bytes": 1, "flops": 1, "held": []}
        submission = {"lease": "a" * 32, "unit": "tiny.0.t0", "attempt": 1, "outcome": "done", "result": {"digest": ZERO, "bytes": 1},
                      "segments_root": ZERO, "loss": 0, "tokens": 1, "seconds": 1}
        enrolment = {"account": "alice", "token": self.pool.token, "rig_id": "rig", "agent": "gradminer/0.1.0"}
        files = self.files()
        for hostile in ("../../x", "..", ".", "", "/etc/passwd", "a/../b", "a\\b", "a\0b", "a\nb", "%2e%2e%2f", "x" * 4096, "тest", "a b"):
            for path, good, keys in (("/v1/rigs", enrolment, ("account", "rig_id")),
                                     ("/v1/leases", lease, ("request_id", "instance")),
                                     ("/v1/leases", {**lease, "held": [{"job": hostile, "round": 0}]}, ()),
                                     ("/v1/submissions", submission, ("lease", "unit", "segments_root")),
                                     ("/v1/submissions", {**submission, "result": {"digest": hostile, "bytes": 1}}, ())):
                for body in [{**good, key: hostile} for key in keys] or [good]:
                    self.check((400, 1003), rig.call("POST", path, body), (path, hostile))
            for previous in ({"key": hostile, "signature": "A" * 86 + "=="}, {"key": rig.public, "signature": hostile}):
                self.check((400, 1003), rig.call("POST", "/v1/rigs", {**enrolment, "previous": previous}), ("previous", hostile))
            # The name of a tensor is words for a person, never a file's name: only its length and characters are bounded.
            diverged = {"lease": "a" * 32, "unit": "tiny.0.t0", "attempt": 1, "outcome": "diverged", "tensor": hostile, "step": 0}
            is_text = len(hostile) <= 256 and hostile.isprintable()
            self.check((404, 1300) if is_text else (400, 1003), rig.call("POST", "/v1/submissions", diverged), ("tensor", hostile))
            for parameter in ("keyid", "tag", "nonce"):
                parts = rig.parts(*RELEASE)
                changed = re.sub(f'{parameter}="[^"]*"', lambda _: f'{parameter}="{hostile}"', parts[3]["Signature-Input"])
                parts[3]["Signature-Input"] = changed
                if not {"\0", "\n"} & set(hostile):  # which no header may hold
                    self.check((401, 1101), self.pool.connect().request(*parts), (parameter, hostile))
        self.assertEqual(self.files(), files, "nothing was written")


class Bodies(Refusals):
    job = False
    flags = ("--timeout", "2")

    def flood(self, head, chunk, total):
        """Sends up to `total` bytes and returns what the pool answers, which it does long before."""
        connection = self.pool.connect().send(head)
        try:
            for _ in range(0, total, len(chunk)):
                connection.send(chunk)
        except OSError:  # it has closed its end
            pass
        return connection.response()

    def test_oversized_and_endless(self):
        before = self.memory()
        megabyte = bytes(1 << 20)
        for name, length in (("100 MB", 100_000_000), ("endless", 2**63 - 1), ("64 bits", 2**64 - 1)):
            for line in ("POST /v1/leases", f"PUT /v1/blobs/{ZERO}/0", "GET /v1/pool"):
                head = line.encode() + b" HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % length
                self.check((413, 1001), self.flood(head, megabyte, 100 << 20), (name, line))
        post = b"POST /v1/leases HTTP/1.1\r\n" + HOST
        self.check((400, 1000), self.flood(post + b"Transfer-Encoding: chunked\r\n\r\n", b"100000\r\n" + megabyte + b"\r\n", 100 << 20),
                   "endless chunks")
        self.check((413, 1001), self.flood(b"GET /v1/pool HTTP/1.1\r\n" + HOST, b"A: b\r\n" * 1000, 100 << 20), "endless headers")
        self.check((413, 1001), self.flood(b"GET /v1/pool HTTP/1.1\r\nA: ", b"b" * 10_000, 100 << 20), "an endless header")
        self.check((413, 1001), self.flood(b"G" * 10_000, b"G" * 10_000, 100 << 20), "an endless method")
        self.assertLess(self.memory() - before, 32 << 20, "nothing of it was kept")


class Paths(Refusals):
    TEMPLATES = ("/v1/leases/{}/renewal", "/v1/leases/{}/release", "/v1/blobs/{}", "/v1/blobs/{}/0", "/v1/blobs/" + ZERO + "/{}",
                 "/v1/settlements/{}/0", "/v1/settlements/" + ZERO + "/{}", "/v1/jobs/{}", "/v1/jobs/{}/records/0", "/v1/jobs/tiny/records/{}")
    # One path segment each: the identifier is not of its form.
    FORMS = ("..", ".", "", "..%2f..%2fpool.key", "%2e%2e", "..\\..\\pool.key", "pool.key", "...", "-", "--help", "*", "~", "$HOME", "%00",
             ZERO + "%00", ZERO.replace("0", "A"), ZERO + "0", "../".replace("/", "%c0%af"), "x" * 1000, "?", "?a=b", "0?a=b", ZERO + "?a=b", "0" * 32 + "?a=b", "tiny?a=b")
    # More segments: no such path.
    WALKS = ("../../pool.key", "/etc/passwd", "../../../../../../../etc/passwd", "./" + ZERO, ZERO + "/../../../pool.key")

    def test_traversal_in_every_identifier(self):
        rig = self.pool.rig()
        files = self.files()
        for template in self.TEMPLATES:
            method = "POST" if "leases" in template else "PUT" if template.startswith("/v1/blobs") and template.count("/") == 4 else "GET"
            for hostile in self.FORMS:
                self.check((400, 1000), self.signed(rig, method, template.format(hostile), b"" if method == "GET" else b"x"), template + hostile)
            for hostile in self.WALKS:
                answer = self.signed(rig, method, template.format(hostile), b"" if method == "GET" else b"x")
                with self.subTest(template.format(hostile)):
                    self.assertIn(answer_of(answer), ((400, 1000), (404, 1004)))
        self.assertEqual(self.files(), files, "nothing was written")


if __name__ == "__main__":
    unittest.main(verbosity=2)
