"""Loss and every gradient tensor of `gradminer compute` against transformers in float64.

usage: gradients_test.py GRADMINER SHAPE     (ctest runs every shape)
"""

import pathlib
import sys
import tempfile

import safetensors.torch
import torch

import oracle

LIMIT = 2e-6  # relative L2 of a tensor, or PyTorch's own fp32 error on the same shape where that is larger

# name: (config, batch, context). A block is the fewest sequences that hold 1,024 tokens.
SHAPES = {
    "head_size_64": (oracle.config(2, 2, 128, 64, 211), 3, 37),
    "head_size_80": (oracle.config(2, 2, 160, 29, 97, epsilon=1e-6), 4, 29),
    "odd_everything": (oracle.config(3, 3, 51, 45, 77, inner=131), 5, 43),
    "one_token": (oracle.config(2, 2, 32, 8, 19), 1, 1),
    "context_of_one": (oracle.config(1, 2, 32, 8, 19), 1030, 1),
    "vocabulary_50257": (oracle.config(1, 1, 64, 32, 50257), 3, 17),
    "three_blocks": (oracle.config(2, 3, 48, 100, 65), 25, 100),
    "one_long_sequence": (oracle.config(1, 2, 32, 1100, 65), 2, 1100),
    "inner_beyond_a_chunk": (oracle.config(1, 1, 24, 16, 33, inner=2100), 2, 13),
}


def main(gradminer, shape):
    config, batch, context = SHAPES[shape]
    model = oracle.random_model(config, seed=1)
    tokens = oracle.random_tokens(batch, context, config.vocab_size, seed=2)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        model.save_pretrained(folder / "model", safe_serialization=True)
        tokens.tofile(folder / "tokens.bin")
        loss, _ = oracle.gradminer_compute(gradminer, folder / "model", folder / "tokens.bin", batch, context,
                                           folder / "gradients.safetensors")
        computed = safetensors.torch.load_file(folder / "gradients.safetensors")

    torch_loss, torch_gradients = oracle.gradients_of(model, tokens, batch, context, torch.float32)
    true_loss, true_gradients = oracle.gradients_of(model, tokens, batch, context, torch.float64)
    assert list(sorted(computed)) == list(sorted(true_gradients)), "the gradients' names are not transformers'"

    failures = 0
    print(f"{shape}: relative error (limit {LIMIT:.0e}, or PyTorch fp32's where larger)")
    print(f"{'ours':>10} {'PyTorch':>10}")

    def check(name, ours, theirs):
        nonlocal failures
        good = ours <= max(LIMIT, theirs)
        failures += not good
        print(f"{ours:10.2e} {theirs:10.2e}  {name}{'' if good else '   <- FAILED'}")

    check("loss", abs(loss - true_loss) / true_loss, abs(torch_loss - true_loss) / true_loss)
    for name, true in true_gradients.items():
        assert computed[name].shape == true.shape, f"{name}: shape {computed[name].shape}, not {true.shape}"
        check(name, oracle.relative_error(computed[name].to(torch.float64), true),
              oracle.relative_error(torch_gradients[name], true))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
