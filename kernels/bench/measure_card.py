#!/usr/bin/env python3
"""Measures one NVIDIA card: golden digests first, then compute-sanitizer, then every operation and whole training steps.

    measure_card.py [--card N] [--seconds S] [--only SECTION ...] [--tools TOOL ...] [--models MODEL ...] [--after-golden]
                    [--without-pytorch]

Needs the folder it lies in (the CMake target card_kit makes it), NVIDIA's driver, and for the comparisons PyTorch; nothing
is compiled or fetched but by torch.compile. Prints Markdown; docs/measurements/cards.md holds what it printed, and says which
systems the folder runs on. Ends with 1, and without figures, where a digest is wrong. Whatever else fails is named, the rest
is measured, and it ends with 1, too.
"""
import argparse
import datetime
import math
import pathlib
import re
import shlex
import statistics
import subprocess
import sys
import time
import typing

import card_machine

HERE = pathlib.Path(__file__).resolve().parent
SANITIZER_TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
# Of both families and every exact profile, a gradient and local steps: compute-sanitizer makes a kernel a hundred times as slow.
SHORT_UNITS = ",".join((
    "gradient_odd_shape", "gradient_head_size_80", "three_steps_three_lanes", "llama_odd_shape", "llama_three_steps",
    "int8_odd_shape", "int8_three_steps", "int8_llama", "int8_llama_tied",
    "int8_head_odd_shape", "int8_head_three_steps", "int8_head_llama", "int8_head_llama_tied"))
TURNS = 5
GIVE_UP_AFTER = 5  # lines in a row that fail: each may wait a minute for a card that hangs

MICRO_BATCH = 16384  # tokens at once on a card with 128 multiprocessors or more; smaller ones have from 1,024 on
# name: tokens, inputs, outputs
LAYERS = {
    "6x384 c_attn": (2048, 384, 1152), "6x384 c_proj": (2048, 384, 384), "6x384 c_fc": (2048, 384, 1536),
    "6x384 mlp.c_proj": (2048, 1536, 384),
    "124M c_attn": (1024, 768, 2304), "124M c_proj": (1024, 768, 768), "124M c_fc": (1024, 768, 3072),
    "124M mlp.c_proj": (1024, 3072, 768), "124M head": (1024, 768, 50257),
    "124M padded head": (1024, 768, 50304),
}
LAYERS |= {f"{name}, 16 blocks": (MICRO_BATCH, *sizes) for name, (_, *sizes) in LAYERS.items() if name.startswith("124M ")}
FORMS = ("forward", "dx", "dw")
# sequences, context, heads, head size
ATTENTION = [(1, 1024, 12, 64), (4, 256, 6, 64)]
T, C, V = 16384, 768, 50257  # tokens, channels, vocabulary
# The line of card_bench, and the bytes that must be read and written, once each.
MEMORY = {
    "copy 67108864": 8 * 67108864, "add 67108864": 12 * 67108864, "subtract 67108864": 12 * 67108864,
    "scale 67108864": 8 * 67108864, "sums_of_squares 67108864": 4 * 67108864, "first_non_finite 67108864": 4 * 67108864,
    f"embedding_forward {T} 1024 {V} {C}": 4 * (2 * T + 1024) * C,
    # Of a block, as training calls it: the work grows with the square of the tokens.
    f"embedding_backward 1024 1024 {V} {C}": 4 * (3 * 1024 + 2 * 1024) * C,
    f"layer_norm_forward {T} {C}": 8 * T * C, f"layer_norm_backward {T} {C}": 16 * T * C,
    f"rms_norm_forward {T} {C}": 8 * T * C, f"rms_norm_backward {T} {C}": 16 * T * C,
    "gelu_forward 33554432": 8 * 33554432, "gelu_backward 33554432": 12 * 33554432,
    f"swiglu_forward {T} 2048": 12 * T * 2048, f"swiglu_backward {T} 2048": 20 * T * 2048,
    f"rope_forward {T} 1024 12 4 64": 8 * T * 16 * 64, f"rope_backward {T} 1024 12 4 64": 8 * T * 16 * 64,
    f"bias_backward {T} 3072": 4 * T * 3072, f"cross_entropy 1024 {V}": 8 * 1024 * V,
    f"quantise_rows {T} {C}": 5 * T * C, f"quantise_columns {T} {C}": 5 * T * C,
    f"quantise_rows_two_digits 1024 {V}": 6 * 1024 * V, "adamw 124439808": 28 * 124439808,
}
# Of halves, which cards without tensor cores do not compute.
FAST_MEMORY = {
    "round_to_halves 124439808": 6 * 124439808,
    f"fast_layer_norm_forward {T} {C}": 6 * T * C, f"fast_layer_norm_backward {T} {C}": 16 * T * C,
    f"fast_rms_norm_forward {T} {C}": 6 * T * C, f"fast_rms_norm_backward {T} {C}": 16 * T * C,
    "fast_gelu_forward 33554432": 4 * 33554432, "fast_gelu_backward 33554432": 6 * 33554432,
    f"fast_swiglu_forward {T} 2048": 6 * T * 2048, f"fast_swiglu_backward {T} 2048": 10 * T * 2048,
    f"fast_rope_forward {T} 1024 12 4 64": 4 * T * 16 * 64, f"fast_rope_backward {T} 1024 12 4 64": 4 * T * 16 * 64,
    f"fast_bias_backward {T} 3072": 2 * T * 3072, f"fast_cross_entropy 1024 {V}": 4 * 1024 * V,
}
MEMORY_GOAL = 0.85  # of the copy
# What becomes of a result: hashed or encoded on the card, or read by the host, which would then do that.
RESULTS = {f"{line} 124439808": 4 * 124439808 for line in ("leaf_hashes", "encode_int4", "encode_int8", "read")}


class Model(typing.NamedTuple):
    """A GPT-2, or, with key heads, a LLaMA, and its batch."""
    layers: int
    heads: int
    channels: int
    vocabulary: int
    batch: int
    context: int
    kv_heads: int = 0
    inner: int = 0

    def options(self):
        return [f"--{name.replace('_', '-')}={value}" for name, value in self._asdict().items() if value]


MODELS = {"GPT-2 4x128": Model(4, 4, 128, 256, 12, 64), "GPT-2 6x384": Model(6, 6, 384, 256, 8, 256),
          "GPT-2 124M": Model(12, 12, 768, 50257, 4, 1024), "GPT-2 124M padded": Model(12, 12, 768, 50304, 16, 1024),
          "LLaMA 125M": Model(12, 12, 768, 32000, 4, 1024, kv_heads=4, inner=2048)}
# GB of memory that PyTorch needs for one, estimated; a card with less leaves it out.
NEEDED_GB = {"GPT-2 124M padded": 30}
PROFILES = ("exact-fp32", "exact-int8", "exact-int8-head", "fast")
TINY_MODELS = {"GPT-2": Model(1, 2, 8, 11, 2, 5), "LLaMA": Model(1, 2, 8, 11, 2, 5, kv_heads=1, inner=12)}
TINY_SIZES = {1: "100", 2: "5 16", 4: "6 3 11 16", 5: "6 3 4 2 4"}


def tiny(lines):
    return {f"{name} {TINY_SIZES[len(sizes)]}": 1 for name, *sizes in map(str.split, lines)}


TINY = {"LAYERS": {"tiny": (20, 16, 24)}, "ATTENTION": [(1, 9, 2, 8)], "MODELS": TINY_MODELS, "MEMORY": tiny(MEMORY),
        "FAST_MEMORY": tiny(FAST_MEMORY), "RESULTS": tiny(RESULTS)}


class Bench:
    """A `card_bench operations` or `card_bench steps`, which answers lines; begun anew after a line that ended it."""

    def __init__(self, card, *arguments):
        self.command = [HERE / "card_bench", f"--card={card}", *arguments]
        self.process = None
        self.failed = 0  # lines in a row

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        if self.process:
            self.process.communicate()
        self.process = None

    def ask(self, line):
        """Seconds. Throws RuntimeError with the last words of card_bench where it has no answer."""
        if self.failed == GIVE_UP_AFTER:
            raise RuntimeError("given up after the lines before it")
        self.process = self.process or subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                                        stderr=subprocess.STDOUT, text=True)
        words = "card_bench ended"
        try:
            print(line, file=self.process.stdin, flush=True)
        except BrokenPipeError:
            pass
        for answer in self.process.stdout:
            try:
                seconds = float(answer)
            except ValueError:
                words = answer.strip()
            else:
                self.failed = 0
                return seconds
        self.stop()
        self.failed += 1
        raise RuntimeError(words)


class Measurement:
    def __init__(self, given):
        self.card, self.seconds = given.card, given.seconds
        self.tools, self.models, self.after_golden = given.tools, given.models or MODELS, given.after_golden
        self.profiles, self.memory_gb = PROFILES, 0
        self.peers = self.peak = self.no_compiler = None
        self.peak_text = "fp32 peak not known"
        self.cublaslt = False  # whether it is there
        self.failures = []
        if not given.without_pytorch:
            try:
                import card_peers
                card_peers.use(given.card)
            except (ImportError, OSError, RuntimeError, AssertionError) as error:
                sys.exit(f"PyTorch cannot be used: {error}. --without-pytorch measures without comparing.")
            self.peers = card_peers
            self.no_compiler = card_machine.missing_compiler()

    def attempt(self, what, action, *given):
        """What the action returns; None where it fails, which is no reason not to measure the rest."""
        try:
            return action(*given)
        except Exception as error:  # PyTorch has many kinds
            self.failures.append(f"{what}: {(str(error).strip() or type(error).__name__).splitlines()[0]}")
            return None

    def section(self, name):
        before, begin = len(self.failures), time.monotonic()
        self.attempt(name, getattr(self, name))
        for failure in self.failures[before:]:
            print(f"- FAILED: {failure}")
        print(f"\nThe section {name} took {time.monotonic() - begin:.0f} s.\n", flush=True)

    def operation(self, bench, line, peer_of=None):
        """Seconds of a call, and of the peer's, medians of turns beside each other; None for what fails or has no peer."""
        theirs_fail = f"PyTorch beside {line}"
        peer = self.attempt(theirs_fail, peer_of) if peer_of and self.peers else None
        ours, theirs = [], []

        def take_turns():
            nonlocal peer
            calls = max(1, min(1000, math.ceil(self.seconds / TURNS / max(bench.ask(f"{line} 1"), 1e-7))))
            for _ in range(TURNS):
                ours.append(bench.ask(f"{line} {calls}"))
                if peer:
                    theirs.append(self.attempt(theirs_fail, self.peers.seconds_of, peer, calls))
                    peer = peer if theirs[-1] else None
            return True

        whole = self.attempt(line, take_turns)
        medians = statistics.median(ours) if whole else None, statistics.median(theirs) if whole and peer else None
        peer = None
        if self.peers:
            self.attempt(f"after {theirs_fail}", self.peers.give_back)
        return medians

    def print_heading(self, words, columns, of_peak):
        """Of a table that print_rate() fills; of_peak: whether it is of fp32."""
        columns += ["ours, µs", "ours", *["of the fp32 peak"] * of_peak, "PyTorch, µs", "PyTorch", "ours / PyTorch"]
        print(f"{words}{f'; {self.peak_text}' if of_peak else ''}\n\n| {' | '.join(columns)} |\n{'|---' * len(columns)}|")

    def print_rate(self, name, shape, operations, ours, theirs, of_peak):
        """operations: 10^12, those of a call; ours, theirs: seconds of a call."""
        rates = [seconds and operations / seconds for seconds in (ours, theirs)]
        peak = [number(ours and self.peak and 1e12 * rates[0] / self.peak)] if of_peak else []
        cells = [microseconds(ours), number(rates[0]), *peak, microseconds(theirs), number(rates[1]),
                 number(theirs and theirs / ours)]
        print(f"| {name} | {' x '.join(map(str, shape))} | {' | '.join(cells)} |", flush=True)

    def name_card(self):
        info = subprocess.run([HERE / "card_bench", f"--card={self.card}", "info"], stdout=subprocess.PIPE, text=True)
        if info.returncode != 0:
            sys.exit(1)  # it has said why
        words = info.stdout.strip()
        self.capability = int("".join(re.search(r"compute capability (\d+)\.(\d)", words).groups()))
        self.memory_gb = float(re.search(r", ([\d.]+) GB,", words)[1])
        if ", fast in " not in words:
            self.profiles = tuple(profile for profile in PROFILES if profile != "fast")
        bus_id = re.search(r"[\da-fA-F]+:[\da-fA-F]+:[\da-fA-F]+\.\d", words)[0]
        self.take_peak(words, bus_id)
        return f"{words}; driver {card_machine.driver_version(bus_id)}"

    def take_peak(self, info, bus_id):
        """Computed, not measured."""
        peak = re.search(r"fp32 peak ([\d.e+-]+) TFLOP/s at ([\d.e+-]+) MHz", info)
        if peak is None:
            self.peak_text = "fp32 peak not known for this compute capability"
            return
        teraflops, megahertz = map(float, peak.groups())
        highest = max(megahertz, card_machine.highest_megahertz(bus_id))
        self.peak = 1e12 * teraflops * highest / megahertz
        self.peak_text = f"fp32 peak {1e-12 * self.peak:.4g}, computed, at {highest:.4g} MHz"

    # Sections

    def golden(self):
        """The program's own code, every variant of the sources as the driver compiles it, and libraries."""
        right = self.after_golden or self.digests_of_kernels()
        self.cublaslt = self.library("cuBLASLt", "--cublaslt", "info")
        if self.after_golden:
            print("- golden digests: --after-golden says that they were right before; NCCL: likewise")
            return
        if self.cublaslt:
            right = self.digests("products by cuBLASLt", "--cublaslt") and right
        right = self.library("NCCL", "nccl") is not None and right
        if not right:
            sys.exit("\nGolden digests are wrong, or fast or NCCL is; nothing else is worth measuring.")

    def digests_of_kernels(self):
        right = self.digests("the program's code")
        for folder in sorted((HERE / "ptx").iterdir()):
            if int(folder.name.removeprefix("compute_")) > self.capability:
                print(f"- {folder.name}: not for this card", flush=True)
                continue
            right = self.digests(f"{folder.name}, compiled by the driver", f"--ptx={folder}") and right
        return right

    def digests(self, what, *arguments):
        begin = time.monotonic()
        done = self.run_bench(*arguments, "golden", HERE / "golden.txt")
        print(f"- {what}: {' '.join(done.stdout.split(chr(10))).strip()} ({time.monotonic() - begin:.0f} s)", flush=True)
        if "a newer one is needed" in done.stdout:  # than this driver, which knows no such code: nothing is wrong with the card
            self.failures.append(f"{what}: the driver is too old")
            return True
        return done.returncode == 0

    def library(self, name, *arguments):
        """Whether it is there and works; None where it gives something else than it should."""
        done = self.run_bench(*arguments)
        words = done.stdout.strip()
        if done.returncode == 0:
            print(f"- {re.search(f'{name} .*', words)[0]}", flush=True)
            return True
        print(f"- {words}", flush=True)
        if "other bits arrived" in words:
            return None
        if not re.search(rf"no {name} |{name} is too old", words):
            self.failures.append(f"{name}: {words}")
        return False

    def run_bench(self, *arguments):
        return subprocess.run([HERE / "card_bench", f"--card={self.card}", *arguments], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)

    def sanitizer(self):
        program = card_machine.compute_sanitizer()
        if program is None:
            print("compute-sanitizer is neither in the PATH nor in /usr/local/cuda/bin: not run.")
            return
        computations = {"units": (["golden", HERE / "golden.txt", "--only", SHORT_UNITS], "")}
        if "fast" in self.profiles:  # whose gradients are among the above
            computations |= {f"steps of a {name} in fast": (["steps", "--profile=fast", *model.options()], "2\n")
                             for name, model in TINY_MODELS.items()}
        for tool in self.tools:
            for what, (arguments, lines) in computations.items():
                # Calls that fail are no findings: card_bench looks for kernels that may not be there, and says what fails.
                done = subprocess.run([program, "--tool", tool, "--report-api-errors", "no", "--error-exitcode", "9",
                                       HERE / "card_bench", f"--card={self.card}", *arguments],
                                      input=lines, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
                last = done.stdout.strip().split("\n")[-1].strip("= ")
                print(f"- compute-sanitizer {tool}, {what}: {'passed' if done.returncode == 0 else 'FAILED'}; {last}", flush=True)
                if done.returncode != 0:
                    print(f"\n```\n{done.stdout[-3000:]}\n```")
                    self.failures.append(f"compute-sanitizer {tool}, {what}")

    def products(self):
        self.linear("matmul", "fp32, PyTorch's by cuBLAS without TF32", lambda *n: self.peers.product(*n))

    def int8(self):
        for by, *option in self.ways():
            self.linear("int8", f"int8{by}; PyTorch's is torch._int_mm (cuBLASLt), which leaves the scales out",
                        lambda *n: self.peers.int8_product(*n), *option)

    def fast(self):
        if "fast" not in self.profiles:
            print("This card does not compute `fast`: not measured.")
            return
        half = self.peers.half_name() if self.peers else "halves"
        for by, *option in self.ways():
            self.linear("fast", f"fast{by}, of halves; PyTorch's are {half} before and after",
                        lambda *n: self.peers.product(*n, self.peers.half()), *option)
        self.table_attention("fast_attention", f"`fast`; PyTorch's in {half}",
                             lambda *n: self.peers.attention(*n, self.peers.half()))

    def ways(self):
        """Own kernels, and cuBLASLt where it is there: words for it, and the option of card_bench."""
        return [("",)] + [(", by cuBLASLt where it takes the product", "--cublaslt")] * self.cublaslt

    def linear(self, operation, what, peer_of, *options):
        of_peak = operation == "matmul"
        self.print_heading(f"Products: {what}; µs of one, TOP/s", ["product", "m x n x k"], of_peak)
        ratios = {False: [], True: []}  # of 16 blocks
        with Bench(self.card, *options, "operations") as bench:
            for name, (tokens, inputs, outputs) in LAYERS.items():
                if 1e-9 * 4 * (tokens * inputs + inputs * outputs + tokens * outputs) > self.memory_gb / 3:
                    print(f"| {name} | needs more memory than this card has: not measured |{' - |' * (5 + of_peak)}")
                    continue
                for form in FORMS:
                    ours, theirs = self.operation(bench, f"{operation}_{form} {tokens} {inputs} {outputs}",
                                                  lambda: peer_of(form, tokens, inputs, outputs))
                    shape = {"forward": (tokens, outputs, inputs), "dx": (tokens, inputs, outputs),
                             "dw": (inputs, outputs, tokens)}[form]
                    rate = 2e-12 * tokens * inputs * outputs
                    ratios[tokens == MICRO_BATCH] += [theirs / ours] if theirs else []
                    self.print_rate(f"{name} {form}", shape, rate, ours, theirs, of_peak)
        for of_many, values in ratios.items():
            if values:
                print(f"\nOurs / PyTorch, {'16 blocks' if of_many else 'one or two blocks'}: geometric mean "
                      f"{statistics.geometric_mean(values):.2f}, lowest {min(values):.2f}")
        print()

    def attention(self):
        self.table_attention("attention", "fp32", lambda *n: self.peers.attention(*n))

    def table_attention(self, operation, what, peer_of):
        of_peak = operation == "attention"
        self.print_heading(f"Attention, {what}, causal; the operations are those under the mask; PyTorch's is "
                           "scaled_dot_product_attention; µs of one, TFLOP/s",
                           ["attention", "sequences x context x heads x size"], of_peak)
        with Bench(self.card, "operations") as bench:
            for shape in ATTENTION:
                sequences, context, heads, size = shape
                for way, products in (("forward", 2), ("backward", 5)):
                    ours, theirs = self.operation(bench, f"{operation}_{way} {' '.join(map(str, shape))}",
                                                  lambda: peer_of(way, *shape))
                    rate = 1e-12 * products * sequences * heads * context * context * size
                    self.print_rate(way, shape, rate, ours, theirs, of_peak)

    def memory(self):
        print("Operations that memory bounds: MB that must be read and written, once each, and µs of a call")
        copy, *others = self.transfers(MEMORY | (FAST_MEMORY if "fast" in self.profiles else {}))
        slow = [f"{line} ({rate / copy[1]:.2f})" for line, rate in others if copy[1] and rate and rate < MEMORY_GOAL * copy[1]]
        print(f"\nBelow {MEMORY_GOAL} of the copy: {', '.join(slow) or 'none'}\n\nResults on their way to the host: MB of floats, whatever crosses")
        self.transfers(RESULTS, copy[1] or 0)

    def transfers(self, lines, copy=None):
        """The rate of each line, which a table shows beside that of the copy: given, or the first line's."""
        print("\n| operation | MB | µs | GB/s | of the copy |\n|---|---|---|---|---|")
        rates = []
        with Bench(self.card, "operations") as bench:
            for line, transferred in lines.items():
                seconds, _ = self.operation(bench, line)
                rate = seconds and transferred / seconds
                rates.append((line, rate))
                if copy is None:
                    copy = rates[0][1]
                cells = (f"{1e-6 * transferred:.1f}", microseconds(seconds), f"{1e-9 * rate:.0f}" if rate else "-",
                         number(rate and copy and rate / copy))
                print(f"| {line} | {' | '.join(cells)} |", flush=True)
        return rates

    def steps(self):
        kinds = self.peers.step_kinds() if self.peers else []
        half = f", and by autocast in {self.peers.half_name()}" if self.peers else ""
        print(f"Training steps (forward, backward, AdamW), tokens/s; PyTorch: SDPA, fused AdamW, fp32 without TF32{half}; one "
              "model after the other, since a card may not hold two\n")
        if kinds and "compiled fp32" not in kinds:
            print("torch.compile does not support this card, which needs compute capability 7.0: not measured.\n")
        models = {name: MODELS[name] for name in self.models if self.memory_gb >= NEEDED_GB.get(name, 0)}
        for name in set(self.models) - models.keys():
            print(f"{name} needs {NEEDED_GB[name]} GB: not measured.\n")
        print("| model | ours | ms | tokens/s | PyTorch eager fp32 | compiled fp32 | eager half | compiled half | "
              "ours / exact-fp32 | ours / compiled fp32 | ours / compiled half |\n|---|---|---|---|---|---|---|---|---|---|---|")
        for name, model in models.items():
            theirs = {}
            for kind in kinds:
                if self.no_compiler and kind.startswith("compiled"):
                    continue
                theirs[kind] = self.attempt(f"{name}, PyTorch {kind}", self.peers.seconds_of_step, model, kind, self.seconds,
                                            TURNS)
                self.attempt(f"after {name}, PyTorch {kind}", self.peers.free)
            self.steps_of(name, model, theirs)

    def steps_of(self, name, model, theirs):
        """theirs: seconds of PyTorch's step by its kind."""
        tokens = model.batch * model.context
        exact = None
        for profile in self.profiles:
            ways = self.ways() if profile != "exact-fp32" else [("",), (", launches one by one", "--one-by-one")]
            ways = [(by, option, ()) for by, *option in ways] + [(", one block at a time", (), ("--micro-batch=1",))]
            for by, option, shape in ways:
                ours = self.attempt(f"{name} {profile}{by}", self.seconds_of_step, model, profile, option, shape)
                if (profile, by) == ("exact-fp32", ""):
                    exact = ours
                cells = [f"{1e3 * ours:.2f}" if ours else "-", tokens_per_second(tokens, ours),
                         *(self.no_compiler and kind.startswith("compiled") and "no compiler"
                           or tokens_per_second(tokens, theirs.get(kind))
                           for kind in ("eager fp32", "compiled fp32", "eager half", "compiled half"))]
                ratios = [number(ours and seconds and seconds / ours) for seconds in
                          (exact, theirs.get("compiled fp32"), theirs.get("compiled half"))]
                print(f"| {name}, {model.batch} x {model.context} | {profile}{by} | {' | '.join(cells + ratios)} |", flush=True)

    def seconds_of_step(self, model, profile, option, shape):
        with Bench(self.card, *option, "steps", f"--profile={profile}", *model.options(), *shape) as bench:
            count = max(1, min(200, math.ceil(self.seconds / max(bench.ask(1), 1e-6))))
            return statistics.median(bench.ask(count) / count for _ in range(TURNS))


def microseconds(seconds):
    return f"{1e6 * seconds:,.1f}" if seconds else "-"


def tokens_per_second(tokens, seconds):
    return f"{tokens / seconds:,.0f}" if seconds else "-"


def number(value):
    return f"{value:.2f}" if value else "-"


SECTIONS = ("golden", "sanitizer", "products", "int8", "attention", "fast", "memory", "steps")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--card", type=int, default=0, help="its number, as `gradminer devices` counts (default 0)")
    parser.add_argument("--seconds", type=float, default=0.5, help="for each line of a table (default 0.5)")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, help="golden always comes first")
    parser.add_argument("--tools", nargs="+", choices=SANITIZER_TOOLS, default=SANITIZER_TOOLS, help="of compute-sanitizer")
    parser.add_argument("--models", nargs="+", metavar="MODEL", help=f"of steps: {', '.join(map(repr, MODELS))} (default all)")
    parser.add_argument("--after-golden", action="store_true", help="they were right on this card before: left out")
    parser.add_argument("--without-pytorch", action="store_true", help="no comparisons")
    parser.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)  # for the test, on a driver without cards
    given = parser.parse_args()
    if given.tiny:
        globals().update(TINY)
    for name in given.models or ():
        if name not in MODELS:
            parser.error(f"there is no model {name}")
    libraries = card_machine.add_libraries()
    measurement = Measurement(given)
    print(f"{datetime.date.today()}: {measurement.name_card()}. {measurement.peers.version() if measurement.peers else ''}\n"
          f"`measure_card.py {shlex.join(sys.argv[1:])}`, medians of {TURNS} turns\n\n"
          f"NVIDIA's libraries of Python packages, which are used unless LD_LIBRARY_PATH has others: {libraries}\n", flush=True)
    if measurement.no_compiler:
        print(f"torch.compile is left out: {measurement.no_compiler}\n", flush=True)
    for section in ["golden"] + [name for name in SECTIONS[1:] if name in given.only]:
        measurement.section(section)
    if measurement.failures:
        sys.exit(f"{len(measurement.failures)} parts failed; each is named above.")


if __name__ == "__main__":
    main()
