"""Fifty local AdamW steps of a small GPT-2 and a small LLaMA, clipping included, against torch.optim.AdamW on
transformers' models in float64. Every step has new rows and, as in a schedule, its own learning rate.

usage: training_test.py ORACLE_DRIVER
"""

import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch

import oracle

STEPS, BATCH, CONTEXT = 50, 4, 13
BETA1, BETA2, EPSILON, DECAY, MAX_NORM = 0.9, 0.95, 1e-8, 0.1, 2.0
RATES = [3e-3 * min(1, (step + 1) / 10) for step in range(STEPS)]
MODELS = {"gpt2": oracle.gpt2(2, 2, 16, 61, 16),
          "llama": oracle.llama(2, 4, 2, 8, 61, 16, inner=50, factor=2.0),
          "llama, tied": oracle.llama(1, 2, 1, 16, 61, 16, inner=70, tied=True)}


def ours(driver, folder, tokens):
    """start - end of all weights in canonical order."""
    numbers = [BETA1, 1 - BETA1, BETA2, 1 - BETA2, EPSILON, MAX_NORM]
    for step, rate in enumerate(RATES, 1):
        numbers += [1 - rate * DECAY, rate / (1 - BETA1**step), 1 / np.sqrt(1 - BETA2**step)]
    (folder / "in").write_bytes(np.array([STEPS, BATCH, CONTEXT], "<u8").tobytes() +
                                np.array(numbers, "<f4").tobytes() + tokens.astype("<u2").tobytes())
    subprocess.run([driver, "train", folder, folder / "in", folder / "out"], check=True)
    return torch.from_numpy(np.fromfile(folder / "out", "<f4").astype(np.float64))


def theirs(model, tokens, dtype):
    """The same, computed by PyTorch in dtype: name -> float64 tensor."""
    model = model.to(dtype)
    parameters = dict(model.named_parameters())
    start = {name: p.detach().to(torch.float64, copy=True) for name, p in parameters.items()}
    decayed = [p for p in parameters.values() if p.dim() >= 2]
    others = [p for p in parameters.values() if p.dim() < 2]
    optimiser = torch.optim.AdamW([{"params": decayed, "weight_decay": DECAY}, {"params": others, "weight_decay": 0}],
                                  betas=(BETA1, BETA2), eps=EPSILON)
    clipped = 0
    for step, rate in enumerate(RATES):
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.zero_grad()
        rows = torch.from_numpy(tokens[step].astype(np.int64))
        oracle.loss_of(model, rows[:, :-1], rows[:, 1:]).backward()
        clipped += torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM).item() > MAX_NORM
        optimiser.step()
    assert 0 < clipped < STEPS, f"{clipped} of {STEPS} steps were clipped: both cases must be met"
    return {name: start[name] - p.detach().to(torch.float64) for name, p in parameters.items()}


def main(driver):
    failures = 0
    print(f"relative error of the change after {STEPS} steps\n{'ours':>10} {'PyTorch':>10}")
    for name, config in MODELS.items():
        tokens = np.random.default_rng(5).integers(0, config.vocab_size, (STEPS, BATCH, CONTEXT + 1))
        tokens[:, :, 1::2] = tokens[:, :, :-1:2]  # something to learn
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)

            def model():
                made = oracle.random_model(config, seed=6)
                made.save_pretrained(folder, safe_serialization=True)
                oracle.use_our_frequencies(made, folder, driver)
                return made

            true = theirs(model(), tokens, torch.float64)
            pytorch = theirs(model(), tokens, torch.float32)
            changes = ours(driver, folder, tokens).split([change.numel() for change in true.values()])
        for (tensor, expected), change in zip(true.items(), changes):
            own, other = (oracle.relative_error(c, expected) for c in (change.view_as(expected), pytorch[tensor]))
            bad = not own <= 3 * other  # the key part of c_attn.bias is noise in both: its true gradient is 0
            failures += bad
            print(f"{own:10.2e} {other:10.2e}  {name}: {tensor}{'   <- FAILED' if bad else ''}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
