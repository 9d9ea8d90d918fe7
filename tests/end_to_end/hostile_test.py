"""Hostile: whatever answers as a pool, a rig writes only into its folder, keeps its limits, and talks to nobody else."""

import datetime
import gzip
import ipaddress
import json
import re
import ssl
import unittest

import harness
import wire
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hostile_pool import MEGABYTE, HostilePool, RealWork, Server

WALKS = ("../../escaped", "/tmp/gradminer-escaped", "..", "", "a/b", "a\0b", "\x1b[2J", "x" * 5000)


SQUEEZED = gzip.compress(b" " * (64 << 20)) * 4  # 256 MB, if anyone unpacks it


class Hostile(harness.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.work = RealWork()

    def fake(self, **options):
        pool = HostilePool(self.sandbox, **options)
        self.addCleanup(pool.close)
        pool.blobs.update(self.work.blobs)
        return pool

    def agent(self, pool, name="rig", limits=None, **config):
        """A started agent that hardly waits between attempts."""
        file = self.sandbox.folder / f"{name}.json"
        file.write_text(json.dumps({"retry-pause": 0.01, "disk-reserve-mb": 0, "limits": limits or {}, **config}))
        agent = harness.Agent(pool, name, "ann", "token", extra=["-c", file])
        agent.data.mkdir()
        return agent.start()

    def until(self, what, condition, agent, timeout=60):
        def either():
            assert agent.process.running(), f"the agent ended while waiting for {what}"
            return condition()
        return harness.wait_for(what, either, timeout)

    def memory(self, agent):
        """Its largest memory so far, in bytes."""
        with open(f"/proc/{agent.process.popen.pid}/status") as status:
            return int(re.search(r"VmHWM:\s+(\d+) kB", status.read())[1]) * 1024


class Files(Hostile):
    def tree(self, agent):
        return {str(path) for path in self.sandbox.folder.rglob("*") if agent.data not in path.parents}

    def test_names(self):
        """Path traversal in every identifier that a pool says; what is no name is refused before it is used."""
        for number, walk in enumerate(WALKS):
            pool = self.fake()
            for path in (("lease",), ("unit", "unit"), ("unit", "job"), ("unit", "kind"), ("unit", "weights", "digest"),
                         ("unit", "weights", "checkpoint", "digest"), ("unit", "shards", 0, "digest")):
                def put(lease):
                    for key in path[:-1]:
                        lease = lease[key]
                    lease[path[-1]] = walk
                pool.leases.append(self.work.answer(put))
            pool.leases.append(self.work.answer(lambda lease: lease["unit"].update({"job": walk, "unit": walk + ".0.t0"})))
            with self.subTest(walk):
                self.refuses_leases(pool, f"rig-{number}")

    def refuses_leases(self, pool, name):
        """Every lease of the pool, without fetching or writing anything for it."""
        agent = self.agent(pool, name)
        before, asked = self.tree(agent), len(pool.leases)
        self.until("every lease and one more", lambda: pool.count("/v1/leases") > asked, agent)
        self.assertEqual(self.tree(agent), before)
        self.assertEqual((pool.count("/v1/blobs/.*"), pool.releases), (0, []))
        agent.kill()

    def test_names_of_updates(self):
        """The same in a chain of updates; the walk is never the digest that the unit's weights must have."""
        other = "b" * 64
        for number, walk in enumerate(WALKS):
            pool = self.fake()
            for member in ("digest", "weights"):
                def put(lease):
                    unit = lease["unit"]
                    unit.update({"unit": "job.2.t0", "round": 2, "base_round": 2})
                    update = {"round": 0, "digest": other, "bytes": 100, "weights": other, member: walk}
                    unit["weights"].update({"round": 2, "digest": other, "updates": [
                        update, {"round": 1, "digest": other, "bytes": 100, "weights": other}]})
                pool.leases.append(self.work.answer(put))
            with self.subTest(walk):
                self.refuses_leases(pool, f"rig-{number}")

    def test_names_of_the_pool(self):
        """The same in what the pool says of itself: it is none."""
        for number, walk in enumerate(WALKS):
            pool = self.fake()
            for name, info in (("pool_id", {"pool_id": walk}), ("key", {"public_keys": [{"key": walk}]}),
                               ("signature", {"public_keys": [{"key": pool.public, "signature": walk}]})):
                pool.special["/v1/pool"] = lambda exchange: exchange.say(200, {**pool.info(), **info})
                with self.subTest(name=name, walk=walk):
                    agent = self.agent(pool, f"{name}-{number}")
                    before = self.tree(agent)
                    self.assertEqual(agent.process.wait(30), 4, agent.process.log())
                    self.assertRegex(agent.process.log(), f"does not speak as a pool does .*{name}")
                    self.assertEqual(self.tree(agent), before)
                    self.assertEqual(list(agent.data.glob("pools/*")), [])

    def test_documents(self):
        """Receipts and settlements about another unit, rig or pool are not kept, whatever they name."""
        for name, change in (("unit", {"unit": "../../escaped.0.t0"}), ("job", {"unit": "escaped.0.t0", "job": "escaped"}),
                             ("rig", {"rig": "0" * 64}), ("pool", {"pool_id": "0" * 64}), ("attempt", {"attempt": 2**63 - 1}),
                             ("time", {"time": 10**10}), ("result", {"result": "../" + "0" * 61})):
            pool = self.fake()
            pool.special["/v1/submissions"] = lambda exchange: exchange.say(
                200, pool.signed(pool.receipt(json.loads(exchange.body), **change), "receipt"))
            pool.leases.append(self.work.answer())
            self.kept_nothing(pool, f"receipt-{name}", "about another result|does not speak|back: ")
        for name, change in (("rig", {"rig": "0" * 64}), ("pool", {"pool_id": "0" * 64}), ("unit", {"unit": "../../escaped"}),
                             ("sequence", {"sequence": -1})):
            pool = self.fake()
            pool.special["/v1/settlements/.*"] = lambda exchange: exchange.say(
                200, {"settlements": [pool.signed(pool.settlement(**change))]})
            self.kept_nothing(pool, f"settlement-{name}", "gave a settlement|does not speak")

    def kept_nothing(self, pool, name, word):
        agent = self.agent(pool, name)
        before = self.tree(agent)
        with self.subTest(name):
            harness.wait_for("the refusal", lambda: re.search(word, agent.process.log()), 20)
            self.assertEqual([path for path in agent.data.glob("receipts/**/*") if path.is_file()], [])
            self.assertEqual(self.tree(agent), before)
        agent.kill()

    def test_disk(self):
        """Bodies without an end, and more than the rest of a blob: not a byte more than the blob has is written."""
        pool = self.fake()
        digest = self.work.lease["unit"]["shards"][0]["digest"]
        path, size, held = f"/v1/blobs/{digest}", len(self.work.blobs[digest]), []

        def look():
            held.extend(file.stat().st_size for file in agent.data.glob(f"cache/*/blobs/{digest}*"))

        def cut(exchange):
            exchange.say(200, self.work.blobs[digest][:size - 100], Content_Length=size, Connection="close")

        def endless(exchange):
            exchange.flood(206 if exchange.headers["Range"] else 200, bytes(512), 64 << 20, look)
        for number, answers in enumerate(([endless], [cut, endless])):
            pool.leases.extend(self.work.answer() for _ in answers)
            agent = self.agent(pool, f"rig-{number}")
            for answer in answers:
                pool.special[path] = answer
                asked = len(pool.requests)
                self.until("an answer", lambda: ("GET", path) in pool.requests[asked:], agent)
                self.until("its end", lambda: pool.requests[-1] != ("GET", path), agent)
            look()
            agent.kill()
        self.assertGreater(len(held), 2)
        self.assertLessEqual(max(held), size)

    def test_cache_limit(self):
        pool = self.fake()
        pool.leases.append(self.work.answer(lambda lease: lease["unit"]["shards"][0].update(
            {"digest": "a" * 64, "bytes": 2 << 30, "tokens": 1 << 30})))
        agent = self.agent(pool, **{"cache-limit-mb": 4})
        self.until("a lease beyond the cache to be given back", lambda: pool.releases, agent)
        self.assertRegex(pool.releases[-1], "cache")
        self.assertEqual(pool.count("/v1/blobs/" + "a" * 64), 0)


class Memory(Hostile):
    MOST = 160 << 20  # half of what a flood sends; an agent at work has some 50 MB

    def test_answers_without_an_end(self):
        """To each request in turn; and a refusal of a large blob, which is text and not a blob."""
        def endless(exchange):
            exchange.flood(200, b" " * 65536, 320 << 20)

        def endless_refusal(exchange):
            exchange.flood(404, MEGABYTE, 320 << 20)

        def endless_headers(exchange):
            exchange.wfile.write(b"HTTP/1.1 200 OK\r\n")
            for i in range(1 << 16):
                exchange.wfile.write(b"".join(b"X-%08d: %s\r\n" % (100 * i + j, b"y" * 50) for j in range(100)))

        def deep(exchange):
            exchange.say(200, b'{"a":' + b"[" * 1_000_000)

        def squeezed(exchange):
            exchange.say(200, SQUEEZED, Content_Encoding="gzip")

        def huge(lease):
            lease["unit"]["shards"][0].update({"digest": "a" * 64, "bytes": 1 << 30, "tokens": 1 << 29})
        cases = [(path, answer) for path in ("/v1/pool", "/v1/rigs", "/v1/leases")
                 for answer in (endless, endless_refusal, endless_headers, deep, squeezed)]
        for path, answer in [*cases, ("/v1/blobs/" + "a" * 64, endless_refusal)]:
            name = f"{path.split('/')[2]}-{answer.__name__}"
            pool = self.fake()
            agent = self.agent(pool, name)
            with self.subTest(name):
                self.until("a first answer", lambda: pool.count("/v1/leases"), agent)
                pool.special[path] = answer
                if path in ("/v1/pool", "/v1/rigs"):  # so that it connects anew
                    pool.special["/v1/leases"] = lambda exchange: exchange.say(500, {})
                pool.leases.extend(self.work.answer(huge) for _ in range(3))
                asked = pool.count(path)
                self.until("two attempts", lambda: pool.count(path) > asked + 1, agent)
                self.assertLess(self.memory(agent), self.MOST)
            agent.kill()

    def test_updates(self):
        """An update that is larger than its model is not read into memory."""
        pool = self.fake()
        pool.leases.append(self.work.answer())
        agent = self.agent(pool)
        self.until("a unit", lambda: pool.submissions, agent)
        update = bytes(320 << 20)
        pool.blobs[wire.sha256(update)] = update

        def next_round(lease):
            unit = lease["unit"]
            unit.update({"unit": "job.1.t0", "round": 1, "base_round": 1})
            unit["weights"].update({"round": 1, "digest": "b" * 64, "checkpoint": None, "updates": [
                {"round": 0, "digest": wire.sha256(update), "bytes": len(update), "weights": "b" * 64}]})
        pool.leases.append(self.work.answer(next_round))
        self.until("the update to be refused", lambda: pool.releases, agent)
        self.assertIn("blob header", pool.releases[0])
        self.assertLess(self.memory(agent), self.MOST)


class Compute(Hostile):
    def test_every_limit(self):
        """Each limit alone one below what the unit asks: it is given back by name, before a byte is fetched."""
        unit = self.work.lease["unit"]
        for key, value, word in (("parameters", unit["parameters"] - 1, "parameters"), ("tokens", unit["tokens"] - 1, "tokens"),
                                 ("steps", unit["steps"] - 1, "steps"), ("batch", unit["batch"] - 1, "rows"),
                                 ("context", unit["context"] - 1, "context"), ("memory-mb", 1, "memory"), ("download-mb", 0, "downloads"),
                                 ("result-mb", 0, "result"), ("seconds", 0, "s here")):
            with self.subTest(key):
                pool = self.fake()
                pool.leases.append(self.work.answer())
                agent = self.agent(pool, f"limit-{key}", limits={key: value})
                self.until(key, lambda: pool.releases, agent)
                self.assertIn(word, pool.releases[0])
                self.assertEqual(pool.count("/v1/blobs/.*"), 0)
                agent.kill()

    def test_what_does_not_fit_any_rig(self):
        """The largest numbers that the protocol allows."""
        def grow(**changed):
            def edit(lease):
                unit = lease["unit"]
                unit.update(changed)
                unit["tokens"] = unit["lanes"] * unit["steps"] * unit["batch"] * unit["context"]
                for shard in unit["shards"]:
                    shard.update({"tokens": 2 * unit["context"] + 1, "bytes": 4 * unit["context"] + 2})
            return edit
        model = self.work.lease["unit"]["model"]
        for name, edit in (("batch", grow(batch=1 << 20)), ("context", grow(context=1 << 20)),
                           ("both", grow(batch=1 << 20, context=1 << 20)),
                           ("layers", grow(model={**model, "n_layer": 4096, "n_embd": 65536, "n_head": 1}, parameters=1 << 40)),
                           ("model", grow(model={**model, "n_layer": 2**62}, parameters=1 << 40))):
            with self.subTest(name):
                pool = self.fake()
                pool.leases.append(self.work.answer(edit))
                agent = self.agent(pool, f"large-{name}")
                self.until("the unit to be given back", lambda: pool.releases, agent)
                self.assertEqual(pool.count("/v1/blobs/.*"), 0)
                self.assertLess(self.memory(agent), 300 << 20)
                agent.kill()


class Time(Hostile):
    def test_times_of_the_pool(self):
        """A time that is none is not taken; sums with the latest that is one do not overflow."""
        for time, taken in ((10**10 - 1, True), (10**10, False), (2**63 - 1, False), (-1, False), ("1", False)):
            pool, created = self.fake(), []

            def late(exchange):
                created.append(int(re.search(r"created=(-?\d+)", exchange.headers["Signature-Input"])[1]))
                exchange.say(401, {"error": {"code": 1104, "name": "clock_skew", "message": "", "pool_time": time}})
            pool.special["/v1/rigs"] = late
            with self.subTest(time):
                agent = self.agent(pool, f"time-{time}")
                harness.wait_for("enough of it", lambda: "next attempt" in agent.process.log() or
                                 not agent.process.running(), 30)
                agent.kill()
                self.assertEqual(len(created) == 1, not taken, created)
                if taken:
                    self.assertAlmostEqual(created[1], time, delta=60)
                else:
                    self.assertRegex(agent.process.log(), "does not speak as a pool does .*pool_time")


class OtherHosts(Hostile):
    def test_redirects(self):
        """To every request, every kind of redirect and hint: the other host never hears a byte."""
        other = Server(self.sandbox)
        self.addCleanup(other.close)
        digest = self.work.lease["unit"]["shards"][0]["digest"]
        kinds = (301, 302, 303, 307, 308, 401, 503)
        for number, path in enumerate(("/v1/pool", "/v1/rigs", "/v1/leases", f"/v1/blobs/{digest}", "/v1/blobs/.*/0", "/v1/submissions")):
            pool = self.fake()
            agent = self.agent(pool, f"rig-{number}")
            statuses = []

            def redirect(exchange):
                statuses.append(kinds[len(statuses) % len(kinds)])
                target = other.url + exchange.path
                exchange.say(statuses[-1], {}, Location=target, Content_Location=target, Refresh=f"0; url={target}",
                             Alt_Svc=f'http/1.1="127.0.0.1:{other.port}"', Link=f"<{target}>; rel=preconnect",
                             WWW_Authenticate="Basic", Retry_After="0")
            with self.subTest(path):
                self.until("a first answer", lambda: pool.count("/v1/leases"), agent)
                pool.special[path] = redirect
                if path in ("/v1/pool", "/v1/rigs"):  # so that it connects anew
                    pool.special["/v1/leases"] = lambda exchange: exchange.say(500, {})
                else:
                    pool.leases.extend(self.work.answer() for _ in (*kinds, 1))
                self.until("every kind", lambda: len(statuses) > len(kinds), agent)
                self.assertEqual((other.connections, other.requests), (0, []))
            agent.kill()

    def test_a_pool_that_only_redirects(self):
        """At the first start it is no pool at all."""
        other, pool = Server(self.sandbox), self.fake()
        self.addCleanup(other.close)
        pool.special["/v1/pool"] = lambda exchange: exchange.say(302, b"", Location=other.url + "/v1/pool")
        agent = self.agent(pool)
        self.assertEqual(agent.process.wait(30), 4)
        self.assertIn("HTTP 302", agent.process.log())
        self.assertEqual(other.connections, 0)


class Certificates(Hostile):
    """No request is sent to a server that cannot show who it is."""

    def certificate(self, days=(-1, 30), names=("127.0.0.1",), issuer=None):
        """(chain, key) signed by the sandbox's authority, or by itself."""
        key = ec.generate_private_key(ec.SECP256R1())
        ca = x509.load_pem_x509_certificate(self.sandbox.ca.read_bytes())
        ca_key = serialization.load_pem_private_key(self.sandbox.folder.joinpath("ca.key").read_bytes(), None)
        name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pool")]), datetime.datetime.utcnow()
        alternatives = [x509.IPAddress(ipaddress.ip_address(n)) if n[0].isdigit() else x509.DNSName(n) for n in names]
        certificate = (x509.CertificateBuilder().subject_name(name).issuer_name(name if issuer == "self" else ca.subject)
                       .public_key(key.public_key()).serial_number(x509.random_serial_number())
                       .not_valid_before(now + datetime.timedelta(days=days[0])).not_valid_after(now + datetime.timedelta(days=days[1]))
                       .add_extension(x509.SubjectAlternativeName(alternatives), False)
                       .sign(key if issuer == "self" else ca_key, hashes.SHA256()))
        chain, private = self.sandbox.folder / "made.pem", self.sandbox.folder / "made.key"
        chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        return chain, private

    def refused(self, name, word, **options):
        with self.subTest(name):
            pool = self.fake(**options)
            agent = self.agent(pool, name.replace(" ", "-"))
            self.assertEqual(agent.process.wait(30), 5, agent.process.log())
            self.assertRegex(agent.process.log(), f"(?i){word}")
            self.assertEqual(pool.requests, [])
            self.assertEqual(list(agent.data.glob("pools/*")), [], "nothing is remembered of it")

    def test_certificates(self):
        self.refused("expired", "expired|date|clock", certificate=self.certificate(days=(-30, -1)))
        self.refused("not yet valid", "not yet valid|clock", certificate=self.certificate(days=(1, 30)))
        self.refused("self-signed", "self.signed|certificate", certificate=self.certificate(issuer="self"))
        self.refused("wrong name", "127.0.0.1|name", certificate=self.certificate(names=("pool.example",)))
        self.refused("wrong address", "127.0.0.1|name", certificate=self.certificate(names=("127.0.0.2", "localhost")))

    def test_old_tls(self):
        for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = version
            context.set_ciphers("ALL:@SECLEVEL=0")
            self.refused(version.name, "TLS|protocol version", context=context)

    def test_plain_http(self):
        self.refused("plain", "TLS|https", plain=True)

    def test_the_same_with_a_good_certificate(self):
        pool = self.fake(certificate=self.certificate())
        pool.leases.append(self.work.answer())
        self.until("a unit", lambda: pool.submissions, self.agent(pool))


if __name__ == "__main__":
    unittest.main(verbosity=2)
