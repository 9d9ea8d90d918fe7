"""Clear: each mistake of a beginner gives one message that names it and the way out, and the documented exit code."""

import re
import shutil
import unittest

import harness


class Clear(harness.TestCase):
    def refused(self, argv, code, *names, env=None, timeout=120):
        """Runs argv; expects the exit code and one error line with all of `names` (regular expressions)."""
        done = harness.run(argv, None, timeout, env)
        text = (done.stdout + done.stderr).strip()
        self.assertEqual(done.returncode, code, f"{' '.join(map(str, argv))}\n{text}")
        for name in names:
            self.assertRegex(text, re.compile(name, re.IGNORECASE), f"{' '.join(map(str, argv))}")
        errors = [line for line in text.splitlines() if re.search(r"\berror\b|\[error|\[critical", line, re.IGNORECASE)]
        self.assertLessEqual(len(errors), 1, f"more than one error:\n{text}")
        print(f"    {text.splitlines()[-1][:300]}")
        return text

    def agent(self, *arguments, pool="https://127.0.0.1:1", account="ann", token="t" * 20, ca=True):
        return [harness.binary("gradminer"), "run", "-o", pool, "-u", account, "-p", token, "--rig-id", "rig", "--data",
                self.sandbox.folder / "rig-data", "--no-color", *(["--ca", self.sandbox.ca] if ca else []), *arguments]

    def served(self, names=None):
        pool = harness.Pool(self.sandbox, names=names).start()
        return pool, pool.account("ann")

    # --- gradminer ---

    def test_no_pool_there(self):
        self.refused(self.agent(pool="https://127.0.0.1:1"), 4, "127.0.0.1:1", "refused|no pool|not reach|cannot")

    def test_unknown_host(self):
        self.refused(self.agent(pool="https://pool.invalid:8443"), 4, r"pool\.invalid", "name|resolve|DNS")

    def test_plain_http(self):
        self.refused(self.agent(pool="http://127.0.0.1:8443"), 3, "http://", "https")

    def test_no_url(self):
        self.refused(self.agent(pool="127.0.0.1:8443"), 3, "https://")

    def test_https_to_a_plain_port(self):
        pool, token = self.served()
        self.refused(self.agent(pool=pool.status_url.replace("http:", "https:"), token=token), 5, "TLS|https")

    def test_another_server(self):
        """A web server that is no pool, with a right certificate."""
        certificate, key = self.sandbox.certificate()
        server = harness.Process(self.sandbox, "web", ["openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", certificate,
                                                       "-key", key, "-www"])
        port = harness.wait_for("openssl s_server", lambda: re.search(r"ACCEPT \S+:(\d+)", server.log()), 60).group(1)
        self.refused(self.agent(pool=f"https://127.0.0.1:{port}"), 4, "pool")

    def test_certificate_not_trusted(self):
        pool, token = self.served()
        self.refused(self.agent(pool=pool.url, token=token, ca=False), 5, "certificate", "--ca|--pin")
        self.refused(self.agent("--ca", self.sandbox.other_authority(), pool=pool.url, token=token, ca=False), 5,
                     "certificate", "--ca|--pin")

    def test_wrong_pin(self):
        pool, token = self.served()
        self.refused(self.agent("--pin", "0" * 64, pool=pool.url, token=token), 5, "pin")

    def test_wrong_host_name(self):
        pool, token = self.served(names="DNS:pool.example")
        self.refused(self.agent(pool=pool.url, token=token), 5, "127.0.0.1", "certificate", "name")

    def test_wrong_token(self):
        pool, _ = self.served()
        self.refused(self.agent(pool=pool.url, token="wrong-token"), 6, "token", "-p", "account create")

    def test_unknown_account(self):
        pool, token = self.served()
        self.refused(self.agent(pool=pool.url, token=token, account="nobody"), 6, "nobody", "account create|-u")

    def test_revoked(self):
        pool, token = self.served()
        agent = harness.Agent(pool, "rig", "ann", token).start()
        harness.wait_for("the rig to enrol", lambda: pool.json("rig", "list"), 60)
        pool.cli("rig", "revoke", "rig")
        self.assertEqual(agent.process.wait(60), 6)
        self.assertRegex(agent.process.log(), "revoked")

    def test_clock_off(self):
        """A clock two hours off is corrected by the pool's; one before the certificate's time is named as the cause."""
        pool, token = self.served()
        pool.dataset("text", harness.generated_text(30_000))
        pool.job("job", "text", rounds=1, units=1, lanes=1, steps=2, batch=2, context=32, evaluate_every=1000, evaluate_rows=4)
        fake = {"LD_PRELOAD": harness.LIBFAKETIME, "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}
        agent = harness.Agent(pool, "late", "ann", token, env={**fake, "FAKETIME": "+2h"}).start()
        pool.wait_job("job")
        self.assertEqual(agent.stop(), 0)
        self.assertRegex(agent.process.log(), "(?i)clock")
        self.refused(self.agent(pool=pool.url, token=token), 5, "clock|date", env={**fake, "FAKETIME": "@2010-01-01 00:00:00"})

    def test_two_agents_on_one_folder(self):
        pool, token = self.served()
        first = harness.Agent(pool, "rig", "ann", token).start()
        harness.wait_for("the rig to enrol", lambda: pool.json("rig", "list"), 60)
        self.refused(first_arguments(first), 3, "rig-data", "another|already|in use|running")
        self.assertEqual(first.stop(), 0)

    def test_cloned_disk(self):
        pool, token = self.served()
        first = harness.Agent(pool, "rig", "ann", token).start()
        harness.wait_for("the rig to enrol", lambda: pool.json("rig", "list"), 60)
        second = harness.Agent(pool, "clone", "ann", token, extra=["--rig-id", "rig"])
        shutil.copytree(first.data, second.data)
        second.start()
        self.assertEqual(first.process.wait(60), 6)
        self.assertRegex(first.process.log(), "(?i)(same key|clone|duplicate|another)")
        self.assertEqual(second.stop(), 0)

    def test_unknown_config_key(self):
        config = self.sandbox.folder / "config.json"
        config.write_text('{"pools": [{"url": "https://127.0.0.1:1", "account": "a", "token": "t"}], "treads": 2}')
        self.refused([harness.binary("gradminer"), "check-config", "-c", config], 3, "treads", "config.json", "threads")
        self.refused([harness.binary("gradminer"), "run", "-c", config], 3, "treads", "config.json")
        config.write_text('{"threads": 2')
        self.refused([harness.binary("gradminer"), "check-config", "-c", config], 3, "config.json", "JSON")

    def test_no_pool_given(self):
        self.refused([harness.binary("gradminer"), "run", "--data", self.sandbox.folder / "d"], 2, "-o|--pool|--url")

    def test_unreadable_model_folder(self):
        tokens = self.sandbox.folder / "tokens.bin"
        tokens.write_bytes(bytes(2 * 66))
        model = self.sandbox.folder / "model"
        command = [harness.binary("gradminer"), "compute", "--model", model, "--tokens", tokens, "--batch", 1, "--context", 32]
        self.refused(command, 3, str(model), "config.json|not a|no such|does not exist")
        model.mkdir()
        self.refused(command, 3, "config.json")
        (model / "config.json").write_text('{"model_type": "mistral"}')
        self.refused(command, 3, "config.json", "model_type", "mistral", "llama")
        (model / "config.json").write_text('{"model_type": "llama", "attention_bias": true}')
        self.refused(command, 3, "config.json", "attention_bias", "false")

    def test_agent_disk_full(self):
        pool, token = self.served()
        disk = self.small_disk("full", "64k")
        (disk / "ballast").write_bytes(bytes(60_000))
        self.refused(self.agent("--data", disk, pool=pool.url, token=token), 8, "full|space|room", str(disk))

    def test_agent_folder_not_writable(self):
        pool, token = self.served()
        blocked = self.sandbox.folder / "file"
        blocked.write_text("")
        self.refused(self.agent("--data", blocked / "rig", pool=pool.url, token=token), 8, str(blocked))

    # --- gradpool ---

    def small_disk(self, name, size):
        disk = self.sandbox.small_disk(name, size)
        if disk is None:
            self.skipTest("mounting a tmpfs needs root")
        return disk

    def gradpool(self, *arguments, data="pool"):
        return [harness.binary("gradpool"), "--data", self.sandbox.folder / data, *arguments]

    def serve(self, pool, *arguments, listen="127.0.0.1:0", data="pool", certificate=None, key=None):
        return self.gradpool("serve", "--listen", listen, "--certificate", certificate or pool.certificate,
                             "--private-key", key or pool.key, "--status-listen", "127.0.0.1:0", *arguments, data=data)

    def test_port_taken(self):
        pool, _ = self.served()
        taken = pool.url.removeprefix("https://")
        self.refused(self.serve(pool, listen=taken, data="second"), 6, taken, "choose another")

    def test_status_port_taken(self):
        pool, _ = self.served()
        taken = pool.status_url.removeprefix("http://")
        self.refused(self.serve(pool, "--status-listen", taken, data="second"), 6, taken, "choose another")

    def test_two_pools_on_one_folder(self):
        pool, _ = self.served()
        self.refused(self.serve(pool), 4, str(pool.data), "another|already|running|locked")

    def test_certificate_files(self):
        pool = harness.Pool(self.sandbox)
        other = self.sandbox.certificate()
        missing = self.sandbox.folder / "missing.pem"
        self.refused(self.serve(pool, certificate=missing), 3, str(missing))
        self.refused(self.serve(pool, key=other[1]), 3, "match|private key|belong")
        text = self.sandbox.folder / "text.pem"
        text.write_text("no certificate\n")
        self.refused(self.serve(pool, certificate=text), 3, str(text), "PEM|certificate")

    def test_bad_listen_address(self):
        pool = harness.Pool(self.sandbox)
        self.refused(self.serve(pool, listen="8443"), 2, "HOST:PORT|127.0.0.1:")
        self.refused(self.serve(pool, listen="192.0.2.1:8443"), 6, "192.0.2.1", "address")

    def test_text(self):
        """Missing, empty, too short and unreadable text."""
        folder = self.sandbox.folder
        missing, empty, short = folder / "missing.txt", folder / "empty.txt", folder / "short.txt"
        empty.write_text("")
        short.write_text("short")
        for file, name in ((missing, "there is no file"), (empty, "empty"), (short, "short|at least|small|few"),
                           (folder, "director|regular|not a file")):
            self.refused(self.gradpool("dataset", "import", "d", "--text", file), 3, re.escape(str(file)), name)

    def test_job_mistakes(self):
        pool, _ = self.served()
        pool.dataset("text", harness.generated_text(30_000))
        config = self.sandbox.folder / "config.json"
        config.write_text('{"model_type": "gpt2", "vocab_size": 256, "n_positions": 32, "n_embd": 33, "n_layer": 2, "n_head": 2}')
        create = ("job", "create", "job", "--config", config, "--rounds", 2)
        self.refused(self.gradpool(*create, "--dataset", "text", "--context", 32), 3, "n_head|n_embd")
        config.write_text(config.read_text().replace("33", "32"))
        self.refused(self.gradpool(*create, "--dataset", "nothing", "--context", 32), 5, "nothing", "dataset (list|import)")
        self.refused(self.gradpool(*create, "--dataset", "text", "--context", 64), 3, "context", "32|n_positions")
        self.refused(self.gradpool(*create, "--dataset", "text", "--context", 32, "--outer", "adamw", "--steps", 60), 3,
                     "adamw", "--steps 1")
        self.refused(self.gradpool(*create, "--dataset", "text", "--context", 32, "--codec", "int2"), 3, "codec", "int4")
        self.refused(self.gradpool(*create, "--dataset", "text", "--context", 32, "--seed", -1), 2, "--seed", "whole number")
        self.refused(self.gradpool(*create, "--dataset", "text", "--context", 32, "--batch", "010"), 2, "--batch", "whole")
        self.refused(self.serve(pool, "--workers", 0), 2, "--workers", "above 0")
        self.refused(self.gradpool("job", "show", "nothing"), 5, "nothing", "job list")
        self.refused(self.gradpool("account", "create", "ann"), 7, "ann", "exists")
        self.refused(self.gradpool("account", "create", "a b"), 3, "a b")
        self.refused(self.gradpool("rig", "revoke", "nobody"), 5, "nobody")

    def test_pool_disk_full(self):
        disk = self.small_disk("pooldisk", "1m")
        text = self.sandbox.folder / "text.txt"
        text.write_text(harness.generated_text(3_000_000))
        command = [harness.binary("gradpool"), "--data", disk / "pool", "dataset", "import", "text", "--text", text]
        self.refused(command, 4, "full|space|room", str(disk))
        text.write_text(harness.generated_text(20_000))
        harness.run(command)  # nothing half-made is in the way

    def test_output_that_is_lost(self):
        for name, lose in (("ann", ">/dev/full"), ("bob", ">&-")):
            for arguments in (("account", "create", name), ("account", "list"), ("account", "list", "--json"), ("version",),
                              ("--version",), ("--help",)):
                command = ["sh", "-c", f'"$@" {lose}', "sh", *self.gradpool(*arguments)]
                self.refused(command, 1, "gradpool: cannot write to standard output")

    def test_usage(self):
        self.refused([harness.binary("gradpool"), "sevre"], 2, "sevre")
        self.refused([harness.binary("gradpool"), "job", "crate"], 2, "crate")
        self.refused([harness.binary("gradpool")], 2, "command", "--help")
        self.refused([harness.binary("gradpool"), "job"], 2, "command", "--help")
        self.refused([harness.binary("gradminer"), "rnu"], 2, "rnu")


def first_arguments(agent):
    return [harness.binary("gradminer"), *agent.arguments()]


if __name__ == "__main__":
    unittest.main(verbosity=2)
