"""What a long run looks at: when rounds closed, and the memory, descriptors and disk of its programs."""

import json
import math
import os
import pathlib
import sqlite3
import statistics
import subprocess
import threading
import time

# Seconds of a process's life: not looked at (SQLite fills 2 MB of pages for each of the pool's connections as they come
# into use, which takes 18 minutes), and judged where it lived for so long.
WARM_UP, LONG_LIFE = 20 * 60, 40 * 60
LEAKED_MB, LEAKED_DESCRIPTORS = 1, 0   # an hour; between the first and the last ten minutes
ROUNDS_SHARE, ROUNDS_FACTOR = 0.99, 2
RESULT_ROUNDS, CHECKPOINTS, CHECKPOINT_EVERY = 8, 3, 50  # docs/operating.md, section 4
DATABASE_KB = 6                                          # a result, likewise


class Rounds(threading.Thread):
    """Notes when each job's rounds close, as its pool's store says 20 times a second, whether the pool runs or not."""

    def __init__(self, database):
        super().__init__(daemon=True)
        self.database = database
        self.closed = []  # (job, rounds done, monotonic time)
        self.start()

    def run(self):
        done = {}
        while True:
            try:
                with sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=1) as db:
                    while True:
                        for job, rounds in db.execute("SELECT name, rounds_done FROM jobs").fetchall():
                            if rounds > done.get(job, 0):
                                self.closed.append((job, rounds, time.monotonic()))
                            done[job] = rounds
                        time.sleep(0.05)
            except sqlite3.Error:  # a pool that just died or starts
                time.sleep(0.05)

    def done(self, job):
        return max((rounds for name, rounds, _ in list(self.closed) if name == job), default=0)

    def spans(self, jobs):
        """(begin, end) of their rounds. The first of a job is left out: agents that had no work ask again in seconds."""
        closed = {(job, rounds): at for job, rounds, at in list(self.closed) if job in jobs}
        return sorted((closed[job, rounds - 1], at) for (job, rounds), at in closed.items() if (job, rounds - 1) in closed)


class Life:
    """One process from its start to its end: samples (time, resident MB, open descriptors)."""

    def __init__(self, name, process):
        self.name, self.process, self.begin = name, process, time.monotonic()
        self.samples = []

    def sample(self):
        try:
            status = pathlib.Path(f"/proc/{self.process.popen.pid}/status").read_text()
            resident = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
            descriptors = len(os.listdir(f"/proc/{self.process.popen.pid}/fd"))
        except (OSError, StopIteration):  # it just died
            return
        self.samples.append((time.monotonic(), int(resident.split()[1]) / 1024, descriptors))

    def warm(self):
        return [sample for sample in self.samples if sample[0] > self.begin + WARM_UP]

    def seconds(self):
        return self.samples[-1][0] - self.begin if self.samples else 0

    def memory_slope(self):
        """MB an hour with its standard error: least squares through the medians of each minute after the warm-up."""
        minutes = {}
        for at, resident, _ in self.warm():
            minutes.setdefault(int((at - self.begin) // 60), []).append(resident)
        xs, ys = [minute / 60 for minute in minutes], [statistics.median(values) for values in minutes.values()]
        slope, level = statistics.linear_regression(xs, ys)
        spread = math.fsum((x - statistics.fmean(xs)) ** 2 for x in xs)
        rest = math.fsum((y - level - slope * x) ** 2 for x, y in zip(xs, ys))
        return slope, math.sqrt(rest / (len(xs) - 2) / spread)

    def descriptors(self):
        """The fewest in the first and in the last ten minutes after the warm-up (between requests), and the most ever."""
        warm = self.warm()
        first = min(count for at, _, count in warm if at < warm[0][0] + 600)
        last = min(count for at, _, count in warm if at > warm[-1][0] - 600)
        return first, last, max(count for _, _, count in warm)


class Folders:
    """What the folders of a pool and its agents hold on the disk."""

    def __init__(self, fleet, cache_limit):
        self.fleet, self.cache_limit = fleet, cache_limit
        self.samples = []   # (time, MB of blobs, of the database, of its log, of the largest agent's cache)
        self.problems = []

    def sample(self):
        data = self.fleet.pool.data
        blobs, stated = folder_bytes(data / "blobs"), self.stated_blobs()
        database, log = file_bytes(data / "gradpool.db"), file_bytes(data / "gradpool.db-wal")
        caches = [folder_bytes(agent.agent.data / "cache") for agent in self.fleet.agents]
        self.samples.append((time.monotonic(), *(size / 1e6 for size in (blobs, database, log, max(caches)))))
        results, = self.fleet.query("SELECT count(*) FROM results")[0]
        self.expect("blobs", blobs, stated)
        self.expect("database", database, 1_000_000 + results * DATABASE_KB * 1000)
        self.expect("an agent's cache", max(caches), self.cache_limit)

    def expect(self, what, size, limit):
        if size > limit:
            self.problems.append(f"{what}: {size / 1e6:.1f} MB, at most {limit / 1e6:.1f}")

    def stated_blobs(self):
        """Bytes that docs/operating.md allows now: of each job checkpoints and updates, results of 8 rounds and of the
        open one, the outer optimiser's state; once more what a round makes, while it is made. All jobs train the same
        and so share their blobs: those of one that is done and of the running one are all."""
        total, = self.fleet.query("SELECT coalesce(sum(bytes), 0) FROM shards")[0]
        for job, rounds in self.fleet.query("SELECT name, rounds_done FROM jobs ORDER BY created DESC LIMIT 2"):
            weights, = self.fleet.query("SELECT max(bytes) FROM weights WHERE job = ?", job)[0]
            update, = self.fleet.query("SELECT coalesce(max(bytes), 0) FROM updates WHERE job = ?", job)[0]
            result, = self.fleet.query("SELECT coalesce(max(b.bytes), 0) FROM results r JOIN units u ON u.id = r.unit JOIN "
                                       "blobs b ON b.digest = r.digest WHERE r.kept AND u.job = ?", job)[0]
            copies = 2  # the accepted result of a unit and one that checks it
            total += weights * (CHECKPOINTS + 1 + rounds // CHECKPOINT_EVERY) + update * rounds
            total += (RESULT_ROUNDS + 1) * copies * result * self.fleet.job["units"]
            total += 2 * 2 * weights + weights + update  # momentum and residual, old and new
        return total


def median(spans):
    return statistics.median(end - begin for begin, end in spans)


def file_bytes(path):
    return path.stat().st_size if path.exists() else 0


def folder_bytes(folder):
    total = 0
    for path, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.stat(os.path.join(path, name)).st_size
            except FileNotFoundError:  # removed meanwhile
                pass
    return total


class Vitals:
    """Everything that is looked at, and the verdicts."""

    def __init__(self, fleet, cache_limit):
        self.rounds = Rounds(fleet.pool.data / "gradpool.db")
        self.folders = Folders(fleet, cache_limit)
        self.fleet, self.lives, self.loads = fleet, [], []
        self.next_sample = self.next_folders = 0

    def look(self):
        now = time.monotonic()
        if now >= self.next_sample:
            self.next_sample = now + 5
            self.loads.append((now, os.getloadavg()[0]))
            for victim in self.fleet.victims:
                life = next((life for life in self.lives if life.process is victim.process), None)
                if life is None:
                    life = Life(victim.name, victim.process)
                    self.lives.append(life)
                life.sample()
        if now >= self.next_folders:
            self.next_folders = now + 30
            self.folders.sample()

    def long_lives(self):
        return [life for life in self.lives if life.seconds() >= LONG_LIFE]

    def save(self, folder, calm, rough, faults):
        """Plot and raw figures."""
        begin = calm[0][0]

        def minutes(at):
            return (at - begin) / 60
        spans = [(minutes(end), end - start) for start, end in calm + rough]
        data = {"rounds": spans, "faults": [(minutes(fault.begin), fault.end - fault.begin, str(fault)) for fault in faults],
                "lives": [{"name": life.name, "samples": [(minutes(at), *rest) for at, *rest in life.samples]}
                          for life in self.lives],
                "folders": [(minutes(at), *rest) for at, *rest in self.folders.samples],
                "loads": [(minutes(at), load) for at, load in self.loads]}
        (folder / "long-run.json").write_text(json.dumps(data))
        plot(data, ROUNDS_FACTOR * median(calm), minutes(rough[0][0]), folder / "long-run.svg")


def plot(data, allowed, disturbed, file):
    """Rounds above, memory in the middle, disk below."""
    def block(name, rows):
        return f"${name} << END\n" + "\n".join(" ".join(map(str, row)) for row in rows) + "\nEND\n"
    names = sorted({life["name"] for life in data["lives"]})
    blocks = block("rounds", data["rounds"]) + block("folders", data["folders"])
    blocks += block("faults", [(at, 0.1) for at, *_ in data["faults"]])
    for number, name in enumerate(names):  # a gap between lives
        rows = []
        for life in data["lives"]:
            rows += [sample[:2] for sample in life["samples"]] + [()] if life["name"] == name else []
        blocks += block(f"life{number}", rows)
    memory = ", ".join(f"$life{number} using 1:2 with lines title '{name}'" for number, name in enumerate(names))
    script = f"""set terminal svg size 900,900 font 'sans,12' background 'white'
set output '{file}'
{blocks}
set multiplot layout 3,1
set xrange [0:*]
set key top left horizontal
set arrow from {disturbed}, graph 0 to {disturbed}, graph 1 nohead dashtype 2
set ylabel 'a round, s'
set logscale y
plot $rounds using 1:2 with lines title 'rounds', \
     {allowed} with lines dashtype 2 title 'twice the undisturbed median', \
     $faults using 1:2 with points pointtype 1 pointsize 0.4 title 'faults'
unset logscale y
set ylabel 'resident, MB'
set yrange [0:*]
plot {memory}
set ylabel 'disk, MB'
set xlabel 'minutes'
plot $folders using 1:2 with lines title 'blobs', $folders using 1:3 with lines title 'database', \
     $folders using 1:4 with lines title 'its log', $folders using 1:5 with lines title 'cache of an agent'
unset multiplot
"""
    subprocess.run(["gnuplot"], input=script, text=True, check=True)
