"""PyTorch on the card, in the same run as card_bench: for measure_card.py."""
import gc
import math
import os
import statistics
import time

os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # as card_bench counts

import torch
from torch.nn import functional

from gpt2 import Gpt2
from llama import Llama

torch.backends.cuda.matmul.allow_tf32 = False
torch.backends.cudnn.allow_tf32 = False


def use(card):
    """Throws where this PyTorch has no code for the card, too."""
    torch.cuda.set_device(card)
    torch.ones(1, device="cuda").add(1).item()


def version():
    return f"PyTorch {torch.__version__} on {torch.cuda.get_device_name()}"


def half():
    """As `fast` rounds on the card, whose tensor cores may not multiply bf16."""
    return torch.bfloat16 if torch.cuda.get_device_capability() >= (8, 0) else torch.float16


def half_name():
    return {torch.bfloat16: "bf16", torch.float16: "fp16"}[half()]


def step_kinds():
    """What a training step can be computed by here: Triton, which torch.compile uses, needs compute capability 7.0."""
    ways = ("eager", "compiled") if torch.cuda.get_device_capability() >= (7, 0) else ("eager",)
    return [f"{way} {precision}" for precision in ("fp32", "half") for way in ways]


def seconds_of(call, calls):
    call()
    torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(calls):
        call()
    torch.cuda.synchronize()
    return (time.perf_counter() - begin) / calls


def values(*shape, dtype=torch.float32):
    return torch.randn(*shape, device="cuda", dtype=dtype)


def digits(*shape):
    return torch.randint(-127, 128, shape, dtype=torch.int8, device="cuda")


def product(form, tokens, inputs, outputs, dtype=torch.float32):
    if form == "forward":
        x, w = values(tokens, inputs, dtype=dtype), values(inputs, outputs, dtype=dtype)
        return lambda: x @ w
    dy = values(tokens, outputs, dtype=dtype)
    if form == "dx":
        w = values(inputs, outputs, dtype=dtype)
        return lambda: dy @ w.T
    x, dw = values(tokens, inputs, dtype=dtype), values(inputs, outputs, dtype=dtype)
    return lambda: dw.addmm_(x.T, dy)


def int8_product(form, tokens, inputs, outputs):
    """Each with the second operand by columns, cuBLASLt's best case and on some cards the only one that it takes. None where
    it takes none: sizes must be multiples of 8, and the card needs tensor cores for int8."""
    if any(size % 8 for size in (tokens, inputs, outputs)) or torch.cuda.get_device_capability() < (7, 5):
        return None
    m, k, n = {"forward": (tokens, inputs, outputs), "dx": (tokens, outputs, inputs), "dw": (inputs, tokens, outputs)}[form]
    a, b = digits(m, k), digits(n, k).T
    return lambda: torch._int_mm(a, b)


def attention(way, sequences, context, heads, size, dtype=torch.float32):
    q, k, v = (values(sequences, heads, context, size, dtype=dtype).requires_grad_(way == "backward") for _ in range(3))
    if way == "forward":
        return lambda: functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    out = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    gradient = torch.randn_like(out)
    return lambda: torch.autograd.grad(out, (q, k, v), gradient, retain_graph=True)


def network(model):
    if model.kv_heads:
        return Llama(model.layers, model.heads, model.kv_heads, model.channels, model.inner, model.vocabulary, model.context)
    return Gpt2(model.layers, model.heads, model.channels, model.vocabulary, model.context)


def step_of(model, kind):
    net = network(model).cuda()
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-4, betas=(0.9, 0.95), fused=True)
    tokens = torch.randint(0, model.vocabulary, (model.batch, model.context + 1), device="cuda")
    inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    loss = torch.compile(net.loss) if kind.startswith("compiled") else net.loss

    def step():
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cuda", half(), enabled=kind.endswith("half")):
            value = loss(inputs, targets)
        value.backward()
        optimiser.step()
    return step


def seconds_of_step(model, kind, seconds, turns):
    """The median of turns that take so long each. free() is for what it leaves on the card."""
    step = step_of(model, kind)
    step()  # compiles
    count = max(1, min(200, math.ceil(seconds / seconds_of(step, 1))))
    return statistics.median(seconds_of(step, count) for _ in range(turns))


def give_back():
    """What PyTorch keeps on the card for its next arrays."""
    torch.cuda.empty_cache()


def free():
    """Likewise, after what was compiled and what hangs together."""
    torch.compiler.reset()
    gc.collect()
    give_back()
