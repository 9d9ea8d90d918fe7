"""Learns: the pool trains like torch.optim.AdamW, and int4 differences learn like fp32 ones."""

import json
import math
import sys
import unittest

import harness
import wire

MODEL = {"model_type": "gpt2", "vocab_size": 256, "n_positions": 32, "n_embd": 64, "n_layer": 2, "n_head": 4}
# At 1e-3 torch in fp32 and torch in fp64 agree to 6e-7 in each of 500 losses. At 3e-3 training is chaotic, and the two part by
# 0.8% although they compute the same.
LEARNING_RATE = 1e-3


def torch_gpt2(torch, weights, config):
    """GPT-2 in plain torch: a function (parameters, rows of context + 1 tokens) -> mean loss. Head and wte are one."""
    functional = torch.nn.functional
    parameters = {name.removeprefix("transformer."): torch.nn.Parameter(torch.tensor(values))
                  for name, values in weights.items()}
    heads, channels = config["n_head"], config["n_embd"]

    def norm(x, name):
        return functional.layer_norm(x, (channels,), parameters[name + ".weight"], parameters[name + ".bias"], 1e-5)

    def linear(x, name):
        return x @ parameters[name + ".weight"] + parameters[name + ".bias"]

    def attention(x, prefix):
        batch, context, _ = x.shape
        q, k, v = (part.view(batch, context, heads, -1).transpose(1, 2)
                   for part in linear(x, prefix + "c_attn").split(channels, 2))
        scores = q @ k.transpose(2, 3) / math.sqrt(channels // heads)
        masked = scores.masked_fill(torch.ones(context, context, dtype=torch.bool).triu(1), -math.inf)
        return linear((masked.softmax(3) @ v).transpose(1, 2).reshape(batch, context, channels), prefix + "c_proj")

    def loss(rows):
        tokens, targets = rows[:, :-1], rows[:, 1:]
        x = parameters["wte.weight"][tokens] + parameters["wpe.weight"][: tokens.shape[1]]
        for layer in range(config["n_layer"]):
            prefix = f"h.{layer}."
            x = x + attention(norm(x, prefix + "ln_1"), prefix + "attn.")
            inner = functional.gelu(linear(norm(x, prefix + "ln_2"), prefix + "mlp.c_fc"), approximate="tanh")
            x = x + linear(inner, prefix + "mlp.c_proj")
        logits = norm(x, "ln_f") @ parameters["wte.weight"].T
        return functional.cross_entropy(logits.reshape(-1, logits.shape[2]), targets.reshape(-1))

    return parameters, loss


class Learns(harness.TestCase):
    def setUp(self):
        self.pool = harness.Pool(self.sandbox).start()
        self.token = self.pool.account("ann")
        self.pool.dataset("text", harness.english_text(1_000_000))

    def agent(self, name="rig", threads=1):
        return harness.Agent(self.pool, name, "ann", self.token, threads).start()

    def test_follows_torch_adamw(self):
        import torch
        torch.manual_seed(0)
        torch.set_num_threads(1)
        rounds, lanes = 500, 2
        self.pool.job("job", "text", MODEL, rounds=rounds, units=1, lanes=lanes, steps=1, batch=8, context=32, codec="fp32",
                      outer="adamw", outer_lr=LEARNING_RATE, outer_beta1=0.9, outer_beta2=0.95, outer_weight_decay=0.1,
                      outer_warmup=0, evaluate_every=rounds, evaluate_rows=64, check_share=0)
        agent = self.agent()
        description = json.loads(self.pool.document("/v1/jobs/job"))
        initial = wire.read_safetensors(self.pool.get("/v1/blobs/" + description["initial_weights"]["digest"]))
        parameters, loss = torch_gpt2(torch, initial, MODEL)
        optimiser = torch.optim.AdamW([{"params": [p for p in parameters.values() if p.ndim >= 2], "weight_decay": 0.1},
                                       {"params": [p for p in parameters.values() if p.ndim < 2], "weight_decay": 0.0}],
                                      lr=LEARNING_RATE, betas=(0.9, 0.95), eps=1e-8)
        shards = wire.read_shards(self.pool, description["train"])
        expected = []
        for number in range(rounds):
            rows = [wire.training_rows(description, shards, number, lane, 0) for lane in range(lanes)]
            step_loss = sum(loss(torch.tensor(r.astype("i8"))) for r in rows) / lanes
            optimiser.zero_grad()
            step_loss.backward()
            optimiser.step()
            expected.append(step_loss.item())
        with torch.no_grad():
            rows = wire.evaluation_rows(description, wire.read_shards(self.pool, description["validation"]))
            expected_validation = loss(torch.tensor(rows.astype("i8"))).item()

        status = self.pool.wait_job("job", timeout=900)
        self.assertEqual(agent.stop(), 0)
        found = [value for _, value in sorted(map(tuple, status["training_loss"]))]
        self.assertEqual(len(found), rounds)
        validation = dict(map(tuple, status["validation_loss"]))[rounds]
        apart = max(abs(ours / theirs - 1) for ours, theirs in zip(found, expected))
        print(f"last loss {found[-1]:.6f} (torch {expected[-1]:.6f}), in {rounds} steps at most {apart:.1e} apart; "
              f"validation {validation:.6f} (torch {expected_validation:.6f})")
        self.assertLess(apart, 1e-4)
        self.assertAlmostEqual(validation, expected_validation, delta=1e-4 * expected_validation)
        self.assertLess(validation, 0.6 * expected[0], "it did not learn")

    def test_int4_learns_like_fp32(self):
        rounds, losses = 20, {}
        for codec in ("fp32", "int4"):
            self.pool.job(codec, "text", MODEL, rounds=rounds, units=1, lanes=4, steps=20, batch=8, context=32, codec=codec,
                          evaluate_every=10, evaluate_rows=256, check_share=0)  # the default optimisers
            agent = self.agent(codec, threads=2)
            losses[codec] = dict(map(tuple, self.pool.wait_job(codec, timeout=500)["validation_loss"]))
            self.assertEqual(agent.stop(), 0)
        for number in (10, 20):
            fp32, int4 = losses["fp32"][number], losses["int4"][number]
            print(f"validation loss after {number} rounds: fp32 {fp32:.4f}, int4 {int4:.4f} ({int4 / fp32 - 1:+.2%})")
            self.assertLess(abs(int4 / fp32 - 1), 0.01)
        self.assertLess(losses["fp32"][rounds], 0.5 * losses["fp32"][0], "it did not learn")


if __name__ == "__main__":
    unittest.main(verbosity=2)
