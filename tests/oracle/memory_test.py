"""docs/memory.md's formulas against what `gradminer compute` plans, and its plans against the process's measured peak.

usage: memory_test.py GRADMINER ORACLE_DRIVER
"""

import dataclasses
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile

PLAN_TOLERANCE = 0.01  # of the formula; packing takes 3% less where a tile has 6 rows
PEAK_TOLERANCE = 0.03  # of the plan
PROCESS = 15e6
PROFILES = {"gpt2": ("exact-fp32", "exact-int8"), "llama": ("exact-fp32", "exact-int8-head")}


@dataclasses.dataclass
class Shape:
    name: str
    family: str
    layers: int
    heads: int
    channels: int
    inner: int
    vocabulary: int
    batch: int
    context: int
    kv_heads: int = 0
    tied: bool = True

    def config(self):
        if self.family == "gpt2":
            return {"model_type": "gpt2", "n_layer": self.layers, "n_head": self.heads, "n_embd": self.channels,
                    "n_inner": self.inner, "n_positions": self.context, "vocab_size": self.vocabulary}
        return {"model_type": "llama", "num_hidden_layers": self.layers, "num_attention_heads": self.heads,
                "num_key_value_heads": self.kv_heads, "hidden_size": self.channels,
                "intermediate_size": self.inner, "max_position_embeddings": self.context,
                "vocab_size": self.vocabulary, "rms_norm_eps": 1e-6, "hidden_act": "silu", "rope_theta": 10000.0,
                "tie_word_embeddings": self.tied}

    def row_of_logits(self):
        return math.ceil(self.vocabulary / 16) * 16


SHAPES = [
    Shape("gpt2, small", "gpt2", 4, 4, 128, 512, 256, 12, 64),
    Shape("gpt2, one block", "gpt2", 6, 6, 384, 1536, 256, 4, 256),
    Shape("gpt2, a batch of many blocks", "gpt2", 4, 4, 512, 1000, 1000, 40, 100),
    Shape("gpt2, a long context, a large vocabulary", "gpt2", 2, 4, 256, 1024, 30000, 1, 2100),
    Shape("llama, grouped heads", "llama", 6, 8, 384, 1000, 256, 4, 256, 2, False),
    Shape("llama, tied", "llama", 4, 4, 256, 700, 20000, 12, 100, 4, True),
]


def planned_bytes(s, profile, threads, recompute):
    """docs/memory.md, line by line."""
    L, C, H, F, V, T = s.layers, s.channels, s.heads, s.inner, s.vocabulary, s.context
    D = C // H
    K = s.kv_heads or H
    E = (H + 2 * K) * D
    M = min(s.batch, math.ceil(1024 / T)) * T
    N = s.batch * T
    llama = s.family == "llama"
    if llama:
        P = V * C * (1 if s.tied else 2) + L * ((E + C + 3 * F) * C + 2 * C) + C
        layer = M * (E + 2 * C + 3 * F + 2 * H + 2)
        gradients = M * (C + max(C, F) + max(E, 2 * F))
    else:
        P = V * C + T * C + L * (4 * C * C + 2 * C * F + F + 9 * C) + 2 * C
        layer = M * (5 * C + 2 * F + 2 * H + 4)
        gradients = M * (2 * C + max(3 * C, F))
    floats = 2 * P + threads * (1.2e6 + 128 * T + (4 if T > 2048 else 2) * T * D)
    floats += layer * (1 if recompute else L) + (L + 1) * M * C
    floats += M * (2 * C + 2) + (T * D if llama else 0) + M * s.row_of_logits()
    floats += gradients + (V * C if s.tied else 0) + N + 2 * M
    return 4 * floats + int8_bytes(s, profile, M, E, recompute) + PROCESS


def int8_bytes(s, profile, M, E, recompute):
    """What the int8 profiles add."""
    if profile == "exact-fp32":
        return 0
    L, C, F, V = s.layers, s.channels, s.inner, s.vocabulary
    llama = s.family == "llama"
    weights = L * ((E + C + 3 * F) * C if llama else 4 * C * C + 2 * C * F)
    layer = M * (3 * C + F + 16) - 4 * M * F
    added = 2 * weights + layer * (1 if recompute else L) + 4 * M * F
    added += M * (max(E, C, 2 * F) if llama else max(3 * C, F))
    return added + (2 * V * C + M * C + 2 * M * s.row_of_logits() if profile == "exact-int8-head" else 0)


def peak_of(command):
    """The command's JSON answer and the peak of its resident memory in bytes."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    answer = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = status
    assert status == 0, f"{' '.join(command)} ended with {status}"
    return json.loads(answer), usage.ru_maxrss * 1024


def main(gradminer, driver):
    failures = 0
    print(f"{'formula':>10} {'planned':>10} {'measured':>10}  MB")
    with tempfile.TemporaryDirectory() as folder:
        for shape in SHAPES:
            model = pathlib.Path(folder) / shape.name.replace(" ", "-")
            model.mkdir()
            (model / "config.json").write_text(json.dumps(shape.config()))
            subprocess.run([driver, "initialise", str(model), "1"], check=True)
            (model / "tokens.bin").write_bytes(bytes(2 * (shape.batch * shape.context + 1)))
            command = [gradminer, "compute", "--model", str(model), "--tokens", str(model / "tokens.bin"), "--batch",
                       str(shape.batch), "--context", str(shape.context), "--json"]
            for profile in PROFILES[shape.family]:
                failures += check(shape, profile, command)
    return 1 if failures else 0


def check(shape, profile, command):
    """The number of plans, without and with computing activations again, that are not as the document says."""
    failures, digests, limit = 0, set(), None
    command = command + ["--profile", profile]
    for recompute, threads in ((False, 1), (True, 3)):
        answer, peak = peak_of(command + ["--threads", str(threads)] + (["--memory-limit", str(limit)] if limit else []))
        formula, planned = planned_bytes(shape, profile, threads, recompute), answer["planned_bytes"]
        good = abs(formula / planned - 1) <= PLAN_TOLERANCE and abs(peak / planned - 1) <= PEAK_TOLERANCE
        good = good and (limit is None or planned <= limit)
        failures += not good
        print(f"{formula / 1e6:10.1f} {planned / 1e6:10.1f} {peak / 1e6:10.1f}  {shape.name}, {profile}, {threads} threads"
              f"{', recomputed' if recompute else ''}{'' if good else '   <- FAILED'}")
        digests.add(answer["digest"])
        limit = planned - 1
    assert len(digests) == 1, f"{shape.name}: the digest depends on the memory limit or the threads"
    return failures


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
