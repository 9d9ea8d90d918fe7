"""The status page in headless Chromium, served by a real gradpool with a job, rounds and rigs."""

import html
import os
import re
import struct
import subprocess
import tempfile
import threading
import unittest
import urllib.request
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from http_pool import ServedPool, harness

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"]


def chromium(*arguments, dark=False):
    with tempfile.TemporaryDirectory() as profile:
        extra = ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"] if dark else []
        done = subprocess.run(["chromium", *FLAGS, *extra, f"--user-data-dir={profile}", *arguments], capture_output=True,
                              text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def dom(url, milliseconds=3000):
    """The page with the pool's first status drawn. Chromium's virtual time can run out before that on a busy machine."""
    def drawn():
        page = chromium("--dump-dom", f"--virtual-time-budget={milliseconds}", url)
        return page if len(re.findall(r'<main id="\w+" hidden', page)) == 1 else None
    return harness.wait_for("the page to be drawn", drawn, 120)


def text_of(page, element):
    """The text of the element with this id."""
    found = re.search(rf'<(\w+) [^>]*id="{element}"[^>]*>(.*?)</\1>', page, re.S)
    assert found, f"no element {element} in\n{page}"
    return html.unescape(re.sub(r"<[^>]*>", " ", found.group(2))).strip()


def pixels(png):
    """(width, height, rows of bytes, bytes a pixel) of an 8-bit RGB or RGBA PNG file."""
    position, data = 8, b""
    while position < len(png):
        size, kind = struct.unpack(">I4s", png[position:position + 8])
        body = png[position + 8:position + 8 + size]
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack(">IIBB", body[:10])
            assert depth == 8 and colour in (2, 6)
        elif kind == b"IDAT":
            data += body
        position += 12 + size
    step, raw = (3 if colour == 2 else 4), zlib.decompress(data)
    rows, previous, line = [], bytearray(width * step), width * step + 1
    for y in range(height):
        kind, row = raw[y * line], bytearray(raw[y * line + 1:(y + 1) * line])
        for i in range(len(row)):
            left, up = (row[i - step] if i >= step else 0), previous[i]
            corner = previous[i - step] if i >= step else 0
            if kind == 1:
                row[i] = (row[i] + left) & 255
            elif kind == 2:
                row[i] = (row[i] + up) & 255
            elif kind == 3:
                row[i] = (row[i] + (left + up) // 2) & 255
            elif kind == 4:
                guess = left + up - corner
                row[i] = (row[i] + min((abs(guess - left), 0, left), (abs(guess - up), 1, up),
                                       (abs(guess - corner), 2, corner))[2]) & 255
        rows.append(row)
        previous = row
    return width, height, rows, step


def count_colour(png, red, green, blue):
    _, _, rows, step = pixels(png)
    wanted = bytes((red, green, blue))
    return sum(row[i:i + 3] == wanted for row in rows for i in range(0, len(row), step))


class Page(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.pool = ServedPool(rounds=40)
        cls.pool.pool.account("bob")
        rigs = [cls.pool.rig("attic-1"), cls.pool.rig("attic-2")]
        for number in range(12):
            cls.pool.train_round(rigs[number % 2], 5.5 * 0.93 ** number)
        barred = cls.pool.rig("cellar-1")
        cls.pool.pool.cli("rig", "revoke", barred.public)
        harness.wait_for("the rounds in the log", lambda: cls.pool.log().count("round closed") >= 12, 10)
        harness.wait_for("the revocation in the log", lambda: "rig revoked" in cls.pool.log(), 10)
        cls.page = dom(cls.pool.status_url)

    @classmethod
    def tearDownClass(cls):
        cls.pool.stop()

    def test_values(self):
        self.assertIn('data-errors="0"', self.page)
        self.assertEqual(text_of(self.page, "job-name"), "tiny")
        self.assertEqual(text_of(self.page, "job-state"), "running")
        shown = self.pool.pool.show("tiny")
        self.assertIn(f"round {shown['rounds_done']} of 40", text_of(self.page, "rounds"))
        self.assertEqual(text_of(self.page, "validation-loss"), f"{shown['validation_loss'][-1][1]:.4f}")
        self.assertEqual(text_of(self.page, "training-loss"), f"{shown['training_loss'][-1][1]:.4f}")
        self.assertEqual(text_of(self.page, "accepted"), str(shown["units_accepted"]))
        self.assertRegex(text_of(self.page, "pulse-text"), r"updated \d\d:\d\d:\d\d")
        self.assertRegex(text_of(self.page, "traffic"), r"received [\d.]+ [KM]iB")
        self.assertIn(shown["weights_digest"], text_of(self.page, "weights"))

    def test_tables(self):
        rigs = text_of(self.page, "rigs")
        for word in ("attic-1", "attic-2", "active", "revoked", "alice"):
            self.assertIn(word, rigs)
        self.assertEqual(text_of(self.page, "rigs-note"), "2 of 3 active")
        earned = int(self.pool.pool.show("tiny")["earned"]["alice"])
        self.assertIn(f"{earned // 10**6}.{earned % 10**6:06d}", text_of(self.page, "accounts"))

    def test_chart(self):
        shown = self.pool.pool.show("tiny")
        points = len(shown["validation_loss"]) + len(shown["training_loss"])
        self.assertIn(f'data-points="{points}"', self.page)
        # The accent colours also fill the bar of progress: the chart's share is what that does not explain.
        for dark, colour in ((False, (0x0b, 0x7a, 0x75)), (True, (0x3f, 0xc1, 0xb7))):
            with self.subTest(dark=dark):
                self.assertGreater(count_colour(self.screenshot("1000,800", dark), *colour),
                                   count_colour(self.screenshot("1000,330", dark), *colour) + 200)

    def screenshot(self, size, dark=False, url=None):
        file = self.pool.sandbox.folder / f"page-{size}-{'dark' if dark else 'light'}.png"
        chromium(f"--screenshot={file}", f"--window-size={size}", "--virtual-time-budget=3000", url or self.pool.status_url,
                 dark=dark)
        keep = os.environ.get("KEEP_SCREENSHOTS")
        if keep:
            (harness.pathlib.Path(keep) / file.name).write_bytes(file.read_bytes())
        return file.read_bytes()

    def test_phone(self):
        """Nothing reaches the right edge, so the page itself does not scroll sideways."""
        width, height, rows, step = pixels(self.screenshot("400,1400"))
        edge = {bytes(row[(width - 1) * step:(width - 1) * step + 3]) for row in rows}
        self.assertEqual((width, edge), (400, {b"\xf6\xf7\xf9"}))


class Empty(unittest.TestCase):
    """What a new operator sees."""

    @classmethod
    def setUpClass(cls):
        cls.pool = ServedPool(job=False)

    @classmethod
    def tearDownClass(cls):
        cls.pool.stop()

    def test_no_job(self):
        page = dom(self.pool.status_url)
        self.assertRegex(page, r'<main id="content" hidden')
        self.assertNotRegex(page, r'<main id="empty" hidden')
        self.assertIn("gradpool job create", page)
        self.assertIn('data-errors="0"', page)

    def test_no_rig_yet(self):
        self.pool.pool.dataset("text", harness.generated_text(20000))
        self.pool.pool.job("fresh", "text", rounds=3, units=1, lanes=1, batch=4, context=32)
        self.pool.pool.job("second", "text", rounds=3, units=1, lanes=1, batch=4, context=32)
        harness.wait_for("the jobs in the log", lambda: "job=second" in self.pool.log(), 10)
        page = dom(self.pool.status_url)
        self.assertNotRegex(page, r'id="no-rigs" hidden')
        self.assertIn("gradminer run", page)
        self.assertEqual(re.findall(r'<button aria-pressed="(\w+)">(\w+)<', page), [("false", "fresh"), ("true", "second")])
        self.assertIn('data-errors="0"', page)


class Hostile(BaseHTTPRequestHandler):
    """A pool whose texts are all markup, and which stops answering after its first status."""

    files, answers = {}, 1

    def do_GET(self):
        if self.path == "/status.json":
            Hostile.answers -= 1
            if Hostile.answers < 0:
                return self.send_error(503)
        kind, body = self.files[self.path]
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


class Texts(unittest.TestCase):
    def test_markup_and_a_lost_pool(self):
        """Names from outside stay text; when fetching fails the page says since when, and keeps what it knew."""
        pool = ServedPool()
        try:
            pool.rig("RIGNAME")
            harness.wait_for("the rig in the log", lambda: "rig joined" in pool.log(), 10)
            for path in ("/", "/page.js", "/style.css", "/chart.js", "/status.json"):
                with urllib.request.urlopen(pool.status_url + path) as answer:
                    Hostile.files[path] = answer.headers["Content-Type"], answer.read()
        finally:
            pool.stop()
        kind, status = Hostile.files["/status.json"]
        Hostile.files["/status.json"] = kind, status.replace(b"RIGNAME", b"<img src=x onerror=countError()>")
        server = ThreadingHTTPServer(("127.0.0.1", 0), Hostile)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            page = dom(f"http://127.0.0.1:{server.server_port}/", 5000)
        finally:
            server.shutdown()
            server.server_close()
        self.assertIn("&lt;img src=x onerror=countError()&gt;", page)
        self.assertNotIn("<img", page)
        self.assertIn('data-errors="0"', page)
        self.assertRegex(text_of(page, "alarm"), r"Pool not answering since \d\d:\d\d:\d\d\.")
        self.assertEqual(text_of(page, "job-name"), "tiny")


if __name__ == "__main__":
    unittest.main(verbosity=2)
