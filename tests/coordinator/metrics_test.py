"""/metrics by promtool, /status.json and /healthz of a pool that has worked."""

import json
import re
import subprocess
import unittest
import urllib.error
import urllib.request

from http_pool import ServedPool, harness


class Metrics(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.pool = ServedPool()
        rig = cls.pool.rig("rig-1")
        for round_number in range(3):
            cls.pool.train_round(rig, 5.0 - round_number)
        cls.pool.connect().get("/v1/nowhere")
        harness.wait_for("the third round on the page", lambda: cls.status()["jobs"][0]["rounds_done"] >= 3, 10)
        harness.wait_for("the refusal to be counted", lambda: "not_found" in cls.status()["refusals"], 10)

    @classmethod
    def tearDownClass(cls):
        cls.pool.stop()

    @classmethod
    def get(cls, path):
        with urllib.request.urlopen(cls.pool.status_url + path) as answer:
            return answer.headers, answer.read().decode()

    @classmethod
    def status(cls):
        return json.loads(cls.get("/status.json")[1])

    def metrics(self):
        headers, text = self.get("/metrics")
        self.assertEqual(headers["Content-Type"], "text/plain; version=0.0.4; charset=utf-8")
        return text

    def value(self, text, name, labels=""):
        found = re.search(rf"^{re.escape(name + labels)} (\S+)$", text, re.M)
        self.assertIsNotNone(found, f"{name}{labels} is not among\n{text}")
        return float(found.group(1))

    def test_promtool(self):
        done = subprocess.run(["promtool", "check", "metrics"], input=self.metrics(), capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))

    def test_values(self):
        text, job = self.metrics(), self.status()["jobs"][0]
        label = '{job="tiny"}'
        self.assertEqual(self.value(text, "gradpool_round", label), job["rounds_done"])
        self.assertEqual(self.value(text, "gradpool_units_accepted_total", label), job["units_accepted"])
        self.assertEqual(self.value(text, "gradpool_training_loss", label), job["training_loss"][-1][1])
        self.assertEqual(self.value(text, "gradpool_validation_loss", label), job["validation_loss"][-1][1])
        self.assertEqual(self.value(text, "gradpool_rigs_active"), 1)
        self.assertGreater(self.value(text, "gradpool_bytes_up_total"), 10000)
        self.assertEqual(self.value(text, "gradpool_healthy"), 1)
        self.assertGreater(self.value(text, "gradpool_certificate_expiry_timestamp_seconds"), 1.7e9)
        self.assertGreaterEqual(self.value(text, "gradpool_requests_total", '{code="200",route="/v1/submissions"}'), 3)
        self.assertEqual(self.value(text, "gradpool_requests_total", '{code="404",route="none"}'), 1)
        self.assertEqual(self.value(text, "gradpool_refusals_total", '{error="not_found"}'), 1)
        count = self.value(text, "gradpool_request_seconds_count", '{route="/v1/submissions"}')
        self.assertEqual(self.value(text, "gradpool_request_seconds_bucket", '{route="/v1/submissions",le="+Inf"}'), count)

    def test_status(self):
        status = self.status()
        job, rig = status["jobs"][0], status["rigs"][0]
        self.assertEqual(status["failure"], "")
        self.assertEqual((job["job"], job["state"], job["rounds"]), ("tiny", "running", 200))
        self.assertEqual([round(loss, 4) for _, loss in job["training_loss"][:3]], [5, 4, 3])
        self.assertEqual((rig["rig"], rig["account"], rig["state"], rig["rejected"]), ("rig-1", "alice", "active", 0))
        self.assertEqual(job["earned"]["alice"], rig["earned"])

    def test_health_and_methods(self):
        self.assertEqual(self.get("/healthz")[1], "ok\n")
        for path, data, status in (("/nothing", None, 404), ("/status.json", b"", 405), ("/../etc/passwd", None, 404)):
            with self.assertRaises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(urllib.request.Request(self.pool.status_url + path, data))
            self.assertEqual(refused.exception.code, status)

    def test_policy(self):
        """Nothing on the page comes from another host, nor could it."""
        headers, page = self.get("/")
        self.assertIn("default-src 'self'", headers["Content-Security-Policy"])
        self.assertNotRegex(page, r"(src|href)=\"?(https?:)?//")


if __name__ == "__main__":
    unittest.main(verbosity=2)
