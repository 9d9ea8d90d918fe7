"""The training itself: a pool, a job, two agents, and watching them until the goal is reached."""

import json
import os
import shutil
import time

from common import BINARIES, Failure, command_output, json_output, say
import certificates
from processes import no_interruption
import settings
from options import MAXIMUM_ROUNDS
from progress import Progress

JOB = "quickstart"
DATASET = "text"
ACCOUNTS = ("alice", "bob")
STALLED = 600  # seconds without an accepted unit after which something must be wrong


class Training:
    def __init__(self, folder, processes):
        self.folder = folder
        self._processes = processes
        self.checkpoint = folder.path / "checkpoint"

    # --- the pool's command line ---

    def _gradpool(self, *arguments):
        return [BINARIES / "gradpool", "--data", self.folder.pool, *arguments]

    def _command(self, *arguments):
        return command_output(self._gradpool(*arguments), self.folder.logs / "pool.log")

    def _json(self, *arguments):
        return json_output(self._gradpool(*arguments, "--json"), self.folder.logs / "pool.log")

    def state(self):
        """`gradpool job show`: rounds_done, validation_loss, units_accepted, …"""
        return self._json("job", "show", JOB)

    # --- in the order of a run ---

    def start_pool(self):
        self._authority, certificate, key = certificates.make(self.folder.tls)
        ready = self.folder.pool / "serve.json"
        ready.unlink(missing_ok=True)
        pool = self._processes.start("The pool (gradpool)",
                                     self._gradpool("serve", "--listen", "127.0.0.1:0", "--status-listen", "127.0.0.1:0",
                                                    "--certificate", certificate, "--private-key", key),
                                     self.folder.logs / "pool.log")
        self._processes.wait_for(ready.exists, 60, "the start of the pool")
        self._pool = json.loads(ready.read_text())

    def prepare_job(self):
        """Imports the text and creates accounts and job, unless an earlier run has done so."""
        if JOB in (job["job"] for job in self._json("job", "list")):
            return
        text = self.folder.text
        if DATASET not in (dataset["dataset"] for dataset in self._json("dataset", "list")):
            share = settings.validation_share(text.stat().st_size)
            self._command("dataset", "import", DATASET, "--text", text, "--validation-share", share)
        for account in ACCOUNTS:
            self._token(account)
        config = self.folder.path / "config.json"
        config.write_text(json.dumps(settings.MODEL, indent=2) + "\n")
        flags = [word for name, value in settings.JOB.items() for word in (f"--{name}", value)]
        self._command("job", "create", JOB, "--dataset", DATASET, "--config", config, "--seed", self.folder.seed,
                      "--rounds", MAXIMUM_ROUNDS, *flags)

    def run(self, options):
        """Trains until the goal, and until the loss of the final weights is known; then exports them."""
        state = self.state()
        if not self._at_goal(state, options.rounds):
            self._resume(state, options.rounds)
            self._start_agents()
            state = self._watch(state, options)
        self.final = state
        self._export()

    def _at_goal(self, state, rounds):
        return rounds is not None and state["rounds_done"] == rounds and final_loss_known(state)

    def _resume(self, state, rounds):
        """Lets the job go on; the pool itself pauses it after exactly `rounds` rounds, however fast it goes."""
        if rounds is not None and state["rounds_done"] > rounds:
            raise Failure(f"{self.folder.path} has had {state['rounds_done']} rounds already, more than --rounds {rounds}, "
                          "which counts all of them. Ask for more rounds, or start over with --fresh.")
        if state["state"] not in ("running", "paused"):
            raise Failure(f"the job is {state['state']}: {state['detail']}. Start over with --fresh.")
        if state["state"] == "paused":
            self._command("job", "resume", JOB)
        self._pause_after(rounds or MAXIMUM_ROUNDS)

    def _pause_after(self, rounds):
        """The pool ends the open round too, and pauses when the loss of the final weights is known."""
        self._command("job", "pause", JOB, "--after", rounds)

    def _start_agents(self):
        threads = max(1, len(os.sched_getaffinity(0)) // len(ACCOUNTS))
        for number, account in enumerate(ACCOUNTS, 1):
            self._processes.start(f"{account}'s agent (gradminer)",
                                  [BINARIES / "gradminer", "run", "-o", self._pool["url"], "--ca", self._authority,
                                   "-u", account, "-p", self._token(account), "--rig-id", f"rig-{number}",
                                   "--threads", threads, "--data", self.folder.path / f"agent-{number}", "--no-color"],
                                  self.folder.logs / f"agent-{number}.log")

    def _token(self, account):
        """The account's enrolment token; the pool shows it once, so it is kept here."""
        file = self.folder.path / f"{account}.token"
        if not file.exists():
            with no_interruption():
                token = self._json("account", "create", account)["token"]
                with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as output:
                    output.write(token)
        return file.read_text()

    def _watch(self, state, options):
        begin = last_progress = time.monotonic()
        first_round, units = state["rounds_done"], state["units_accepted"]
        say(f"Training; the pool's page is {self._pool['status_url']}")
        stopping = False
        with Progress(options) as progress:
            while not (state["state"] == "paused" and final_loss_known(state)):
                time.sleep(0.5)
                self._processes.check()
                state = self.state()
                now = time.monotonic()
                elapsed = now - begin
                progress.update(state, elapsed, state["rounds_done"] - first_round)
                if state["state"] not in ("running", "paused"):
                    raise Failure(f"the job is {state['state']}: {state['detail']}. Logs: {self.folder.logs}")
                if state["units_accepted"] != units:
                    units, last_progress = state["units_accepted"], now
                elif now - last_progress > STALLED:
                    raise Failure(f"no unit was accepted for {STALLED // 60} minutes. Logs: {self.folder.logs}")
                if options.minutes and not stopping and elapsed >= options.minutes * 60:
                    self._pause_after(state["rounds_done"])
                    stopping = True
        return state

    def _export(self):
        """The newest weights as a Hugging Face model folder, replaced as a whole."""
        new = self.folder.path / "checkpoint.new"
        for folder in (new, self.checkpoint):
            shutil.rmtree(folder, ignore_errors=True)
        self._command("job", "export", JOB, "--out", new)
        new.rename(self.checkpoint)

    # --- for the summary ---

    def sample(self, length):
        return command_output([BINARIES / "gradminer", "sample", "--model", self.checkpoint, "--length", length,
                               "--seed", self.folder.seed])


def final_loss_known(state):
    return bool(state["validation_loss"]) and state["validation_loss"][-1][0] == state["rounds_done"]
