"""Loss and every gradient tensor of `gradminer compute` against transformers in float64.

usage: gradients_test.py GRADMINER ORACLE_DRIVER gpt2|llama [SHAPE...]
       gradients_test.py GRADMINER ORACLE_DRIVER random [SEED [COUNT]]     COUNT shapes of each family
"""

import pathlib
import random
import sys
import tempfile

import safetensors.torch
import torch

import oracle

LIMIT = 2e-6  # relative L2 of a tensor, or PyTorch's own fp32 error on the same shape where that is larger
# A few random shapes are ill-conditioned (a saturated softmax, where dS = P (dP - D) cancels): of 120, 4 were above
# 2e-6, the worst 5.1e-6.
RANDOM_LIMIT = 1e-5

# name: (config, batch, context). A block is the fewest sequences that hold 1,024 tokens.
GPT2 = {
    "head_size_32": (oracle.gpt2(2, 4, 32, 97, 64), 3, 64),
    "head_size_64": (oracle.gpt2(2, 2, 64, 211, 64), 3, 37),
    "head_size_80": (oracle.gpt2(2, 2, 80, 97, 29, epsilon=1e-6), 4, 29),
    "head_size_128": (oracle.gpt2(1, 2, 128, 256, 257), 1, 257),
    "odd_everything": (oracle.gpt2(3, 3, 17, 77, 45, inner=131), 5, 43),
    "one_token": (oracle.gpt2(2, 2, 16, 19, 8), 1, 1),
    "context_of_one": (oracle.gpt2(1, 2, 16, 19, 8), 1030, 1),
    "context_of_seven": (oracle.gpt2(2, 1, 64, 256, 16), 6, 7),
    "vocabulary_50257": (oracle.gpt2(1, 1, 64, 50257, 32), 3, 17),
    "three_blocks": (oracle.gpt2(2, 3, 16, 65, 100), 25, 100),
    "one_long_sequence": (oracle.gpt2(1, 2, 16, 65, 1100), 2, 1100),
    "inner_beyond_a_chunk": (oracle.gpt2(1, 1, 24, 33, 16, inner=2100), 2, 13),
}
LLAMA = {
    "a_key_for_each_head": (oracle.llama(2, 4, 4, 32, 97, 64, inner=150), 3, 64),
    "groups_of_two": (oracle.llama(2, 4, 2, 64, 256, 128, inner=340, tied=True), 2, 100),
    "groups_of_four": (oracle.llama(2, 8, 2, 32, 256, 64, inner=300), 4, 64),
    "head_size_80": (oracle.llama(1, 2, 1, 80, 97, 257, inner=200, tied=True), 2, 257),
    "head_size_128": (oracle.llama(1, 4, 1, 128, 97, 100, inner=500, theta=500000.0), 1, 100),
    "odd_everything": (oracle.llama(3, 6, 2, 18, 77, 45, inner=131, epsilon=1e-5), 5, 43),
    "one_token": (oracle.llama(2, 2, 2, 32, 97, 8, inner=64), 1, 1),
    "context_of_one": (oracle.llama(1, 2, 1, 32, 97, 8, inner=64, tied=True), 1030, 1),
    "context_of_seven": (oracle.llama(2, 2, 1, 64, 256, 8, inner=100), 6, 7),
    "vocabulary_50257": (oracle.llama(1, 1, 1, 64, 50257, 32, inner=64), 3, 17),
    "vocabulary_50257_tied": (oracle.llama(1, 2, 1, 32, 50257, 64, inner=90, tied=True), 1, 64),
    "linear_scaling": (oracle.llama(2, 4, 2, 32, 256, 257, inner=100, factor=4.0), 2, 257),
    "linear_scaling_tied": (oracle.llama(1, 2, 2, 128, 97, 64, inner=300, tied=True, theta=1e6, factor=2.5), 2, 64),
    "three_blocks": (oracle.llama(2, 3, 1, 16, 65, 100, inner=80), 25, 100),
    "one_long_sequence": (oracle.llama(1, 2, 1, 16, 65, 1100, inner=50), 2, 1100),
    "inner_beyond_a_chunk": (oracle.llama(1, 1, 1, 24, 33, 16, inner=2100), 2, 13),
}


def random_shapes(seed, count):
    draw = random.Random(seed)

    def shape(family):
        context = draw.choice([1, 2, 7, draw.randint(3, 150)])
        batch = draw.randint(1, max(1, min(40, 1500 // context)))
        common = dict(layers=draw.randint(1, 3), vocabulary=draw.randint(2, 400), inner=draw.randint(1, 300),
                      positions=context + draw.randint(0, 3), epsilon=draw.choice([1e-6, 1e-5, 1e-3]))
        if family == "gpt2":
            return oracle.gpt2(heads=draw.randint(1, 4), head_size=draw.randint(2, 50), **common), batch, context
        kv_heads = draw.randint(1, 3)
        return oracle.llama(heads=kv_heads * draw.randint(1, 4), kv_heads=kv_heads, head_size=2 * draw.randint(1, 25),
                            tied=draw.random() < 0.5, theta=10 ** draw.uniform(2, 7),
                            factor=draw.choice([None, draw.uniform(1.1, 8)]), **common), batch, context

    return {f"{family}_{n}": shape(family) for n in range(count) for family in ("gpt2", "llama")}


def errors(gradminer, driver, config, batch, context):
    """[(name, our error, PyTorch's fp32 error)] of the loss and of each gradient."""
    model = oracle.random_model(config, seed=1)
    tokens = oracle.random_tokens(batch, context, config.vocab_size, seed=2)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        model.save_pretrained(folder / "model", safe_serialization=True)
        oracle.use_our_frequencies(model, folder / "model", driver)
        tokens.tofile(folder / "tokens.bin")
        loss, _ = oracle.gradminer_compute(gradminer, folder / "model", folder / "tokens.bin", batch, context,
                                           folder / "gradients.safetensors")
        computed = safetensors.torch.load_file(folder / "gradients.safetensors")

    torch_loss, torch_gradients = oracle.gradients_of(model, tokens, batch, context, torch.float32)
    true_loss, true_gradients = oracle.gradients_of(model, tokens, batch, context, torch.float64)
    assert sorted(computed) == sorted(true_gradients), "the gradients' names are not transformers'"
    found = [("loss", abs(loss - true_loss) / true_loss, abs(torch_loss - true_loss) / true_loss)]
    for name, true in true_gradients.items():
        assert computed[name].shape == true.shape, f"{name}: shape {computed[name].shape}, not {true.shape}"
        found.append((name, oracle.relative_error(computed[name].to(torch.float64), true),
                      oracle.relative_error(torch_gradients[name], true)))
    return found


def main(gradminer, driver, group, *arguments):
    if group == "random":
        seed = int(arguments[0]) if arguments else 1
        count = int(arguments[1]) if arguments[1:] else 8
        print(f"random shapes of seed {seed}")
        shapes, limit = random_shapes(seed, count), RANDOM_LIMIT
    else:
        limit = LIMIT
        shapes = {"gpt2": GPT2, "llama": LLAMA}[group]
        shapes = {name: shapes[name] for name in arguments or shapes}

    print(f"relative errors; limit {limit:.0e}, or PyTorch fp32's where larger\n{'ours':>10} {'PyTorch':>10}")
    failures = 0
    for shape, (config, batch, context) in shapes.items():
        found = errors(gradminer, driver, config, batch, context)
        bad = [f for f in found if not f[1] <= max(limit, f[2])]
        for name, ours, theirs in bad or [max(found, key=lambda f: f[1])]:
            print(f"{ours:10.2e} {theirs:10.2e}  {shape}: {name}{'   <- FAILED' if bad else ', the worst'}", flush=True)
        if bad:
            print(f"batch {batch}, context {context}, {config}")
        failures += len(bad)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
