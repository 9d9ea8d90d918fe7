"""Round trip: a folder that transformers wrote is trained for a round by a pool and an agent and exported; transformers
loads the export, with the loss that was reported for it.
"""

import json
import pathlib
import sys
import unittest

import numpy as np
import torch
import transformers

import harness

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "oracle"))
import oracle  # noqa: E402

CONTEXT, ROWS = 24, 8
GPT2 = oracle.gpt2(2, 2, 16, 256, 32)
LLAMA = oracle.llama(2, 4, 2, 8, 256, 32, inner=44, theta=5e5, factor=2.0)
LLAMA_TIED = oracle.llama(2, 2, 1, 16, 256, 32, inner=44, tied=True)
# name: (config, stored as, options of save_pretrained)
FOLDERS = {
    "gpt2-sharded": (GPT2, torch.float32, {"max_shard_size": "50KB"}),
    "gpt2-fp16": (GPT2, torch.float16, {}),
    "llama-sharded": (LLAMA, torch.float32, {"max_shard_size": "50KB"}),
    "llama-fp16": (LLAMA, torch.float16, {}),
    "llama-tied-bf16": (LLAMA_TIED, torch.bfloat16, {"max_shard_size": "30KB"}),
}
COMPANIONS = {"tokenizer.model": b"\x0a\x07<unk>", "tokenizer.json": b"{}", "tokenizer_config.json": b'{"a": 1}'}


def loaded(folder):
    """In float64, every tensor found."""
    model, report = transformers.AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32,
                                                                      output_loading_info=True)
    assert not any(report.values()), report
    return model.eval().to(torch.float64)


class RoundTrip(harness.TestCase):
    def setUp(self):
        self.pool = harness.Pool(self.sandbox).start()
        self.token = self.pool.account("ann")
        self.pool.dataset("text", harness.generated_text(40_000))

    def evaluation_rows(self, job):
        """docs/protocol.md, section 8."""
        (shard,) = json.loads(self.pool.document(f"/v1/jobs/{job}"))["validation"]
        tokens = np.frombuffer(self.pool.get("/v1/blobs/" + shard["digest"]), "<u2").astype(np.int64)
        begins = [k * (len(tokens) - CONTEXT - 1) // (ROWS - 1) for k in range(ROWS)]
        return torch.from_numpy(np.stack([tokens[b:b + CONTEXT + 1] for b in begins]))

    def assert_same_loss(self, ours, model, rows):
        """To 6 digits."""
        expected = oracle.loss_of(model, rows[:, :-1], rows[:, 1:]).item()
        self.assertLess(abs(ours - expected), 1e-6 * expected, f"{ours} and transformers' {expected}")

    def create(self, job, config, dtype, options):
        """Starts a job of one round from a folder that transformers writes; the folder."""
        folder = self.sandbox.folder / job
        oracle.random_model(config, seed=8).to(dtype).save_pretrained(folder, safe_serialization=True, **options)
        self.assertEqual((folder / "model.safetensors.index.json").exists(), "max_shard_size" in options)
        for name, content in COMPANIONS.items():
            (folder / name).write_bytes(content)
        self.pool.json("job", "create", job, "--dataset", "text", "--model", folder, "--rounds", 1, "--units", 2,
                       "--steps", 4, "--batch", 3, "--context", CONTEXT, "--codec", "fp32", "--evaluate-rows", ROWS)
        return folder

    def check(self, job, start):
        rows = self.evaluation_rows(job)
        losses = dict(self.pool.show(job)["validation_loss"])
        before = loaded(start)
        self.assert_same_loss(losses[0], before, rows)

        out = self.sandbox.folder / f"{job}-trained"
        self.pool.cli("job", "export", job, "--out", out)
        after = loaded(out)
        self.assertIs(type(after), type(before))
        for name, weights in after.named_parameters():
            self.assertFalse(torch.equal(weights, before.get_parameter(name)), f"{name} was not trained")
        self.assert_same_loss(losses[1], after, rows)
        self.assertLess(losses[1], losses[0])
        for name, content in COMPANIONS.items():
            self.assertEqual((out / name).read_bytes(), content)

    def test_round_trip(self):
        folders = {job: self.create(job, *what) for job, what in FOLDERS.items()}
        agent = harness.Agent(self.pool, "rig", "ann", self.token).start()
        for job, start in folders.items():
            self.pool.wait_job(job)
            with self.subTest(job):
                self.check(job, start)
        self.assertEqual(agent.stop(), 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
