"""PyTorch on the card, in the same run as card_bench: for measure_card.py."""
import os
import subprocess
import time

os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # as card_bench counts

import torch
from torch.nn import functional

from gpt2 import Gpt2

FP32_CORES = {(6, 0): 64, (6, 1): 128, (7, 0): 64, (7, 5): 64, (8, 0): 64, (8, 6): 128, (8, 9): 128, (9, 0): 128,
              (10, 0): 128, (12, 0): 128}  # of a multiprocessor: CUDA C++ programming guide, compute capabilities

BF16 = torch.bfloat16

torch.backends.cuda.matmul.allow_tf32 = False
torch.backends.cudnn.allow_tf32 = False


def use(card):
    torch.cuda.set_device(card)


def version():
    return f"PyTorch {torch.__version__} on {torch.cuda.get_device_properties(torch.cuda.current_device()).name}"


def fma_peak():
    """FLOP/s of fp32 at the highest clock that the card is allowed: computed, not measured."""
    card = torch.cuda.get_device_properties(torch.cuda.current_device())
    clock = subprocess.run(["nvidia-smi", "-i", str(torch.cuda.current_device()), "--query-gpu=clocks.max.sm",
                            "--format=csv,noheader,nounits"], stdout=subprocess.PIPE, text=True, check=True).stdout
    return 2e6 * float(clock) * card.multi_processor_count * FP32_CORES[card.major, card.minor]


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
    x, w, dy, dw = (values(*shape, dtype=dtype) for shape in
                    ((tokens, inputs), (inputs, outputs), (tokens, outputs), (inputs, outputs)))
    return {"forward": lambda: x @ w, "dx": lambda: dy @ w.T, "dw": lambda: dw.addmm_(x.T, dy)}[form]


def int8_product(form, tokens, inputs, outputs):
    """None where cuBLASLt does not take the shape: sizes must be multiples of 8."""
    if any(size % 8 for size in (tokens, inputs, outputs)):
        return None
    x, w, dy = digits(tokens, inputs), digits(outputs, inputs), digits(tokens, outputs)
    a, b = {"forward": (x, w.T), "dx": (dy, w), "dw": (x.T.contiguous(), dy)}[form]
    return lambda: torch._int_mm(a, b)


def attention(way, sequences, context, heads, size, dtype=torch.float32):
    q, k, v = (values(sequences, heads, context, size, dtype=dtype).requires_grad_(way == "backward") for _ in range(3))
    if way == "forward":
        return lambda: functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    out = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    gradient = torch.randn_like(out)
    return lambda: torch.autograd.grad(out, (q, k, v), gradient, retain_graph=True)


def training(shape):
    """Name: one step."""
    return {"eager fp32": step_of(shape, compiled=False, bf16=False), "compiled fp32": step_of(shape, True, False),
            "eager bf16": step_of(shape, False, True), "compiled bf16": step_of(shape, True, True)}


def step_of(shape, compiled, bf16):
    layers, heads, channels, vocabulary, batch, context = shape
    model = Gpt2(layers, heads, channels, vocabulary, context).cuda()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), fused=True)
    tokens = torch.randint(0, vocabulary, (batch, context + 1), device="cuda")
    inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    loss = torch.compile(model.loss) if compiled else model.loss

    def step():
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16, enabled=bf16):
            value = loss(inputs, targets)
        value.backward()
        optimiser.step()
    return step
