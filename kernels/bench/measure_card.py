#!/usr/bin/env python3
"""Measures one NVIDIA card: golden digests first, then compute-sanitizer, then every operation and whole training steps.

    measure_card.py [--card N] [--seconds S] [--only SECTION ...] [--without-pytorch]

Needs the folder it lies in (the CMake target card_kit makes it), NVIDIA's driver, and for the comparisons PyTorch; nothing
is compiled or fetched. Prints Markdown; docs/measurements/cards.md holds what it printed. Ends with 1, and without figures,
where a digest is wrong.
"""
import argparse
import datetime
import math
import pathlib
import re
import shutil
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
# Of both families and all profiles; compute-sanitizer makes a kernel a hundred times as slow.
SHORT_UNITS = "gradient_odd_shape,gradient_head_size_80,llama_odd_shape,int8_odd_shape,int8_head_odd_shape"
SANITIZER_TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
TURNS = 5

# name: tokens, inputs, outputs
LAYERS = {
    "6x384 c_attn": (2048, 384, 1152), "6x384 c_proj": (2048, 384, 384), "6x384 c_fc": (2048, 384, 1536),
    "6x384 mlp.c_proj": (2048, 1536, 384),
    "124M c_attn": (1024, 768, 2304), "124M c_proj": (1024, 768, 768), "124M c_fc": (1024, 768, 3072),
    "124M mlp.c_proj": (1024, 3072, 768), "124M head": (1024, 768, 50257),
    "124M padded head": (1024, 768, 50304),
}
FORMS = ("forward", "dx", "dw")
# sequences, context, heads, head size
ATTENTION = [(1, 1024, 12, 64), (4, 256, 6, 64)]
# The line of card_bench, and the bytes that must be read and written, once each.
MEMORY = {
    "copy 67108864": 8 * 67108864, "add 67108864": 12 * 67108864, "gelu_forward 33554432": 8 * 33554432,
    "gelu_backward 33554432": 12 * 33554432, "layer_norm_forward 16384 768": 8 * 16384 * 768,
    "layer_norm_backward 16384 768": 12 * 16384 * 768, "bias_backward 16384 3072": 4 * 16384 * 3072,
    "cross_entropy 1024 50257": 8 * 1024 * 50257, "quantise_rows 16384 768": 5 * 16384 * 768,
    "adamw 124439808": 28 * 124439808,
    # What a segment's digest costs: hashed on the card, or read by the host, which would then hash it.
    "leaf_hashes 124439808": 4 * 124439808, "read 124439808": 4 * 124439808,
}
# layers, heads, channels, vocabulary, batch, context
SHAPES = {"4x128": (4, 4, 128, 256, 12, 64), "6x384": (6, 6, 384, 256, 8, 256), "124M": (12, 12, 768, 50257, 4, 1024),
          "124M padded": (12, 12, 768, 50304, 16, 1024)}
# GB of memory that PyTorch needs for one, estimated; a card with less leaves it out.
NEEDED_GB = {"124M padded": 30}
PROFILES = ("exact-fp32", "exact-int8", "exact-int8-head", "fast")
TINY = {
    "LAYERS": {"tiny": (20, 16, 24)}, "ATTENTION": [(1, 9, 2, 8)], "SHAPES": {"tiny": (1, 2, 8, 11, 2, 5)},
    "MEMORY": {f"{name} {sizes}": 1 for name, sizes in (
        ("copy", "100"), ("add", "100"), ("gelu_forward", "100"), ("gelu_backward", "100"), ("layer_norm_forward", "5 16"),
        ("layer_norm_backward", "5 16"), ("bias_backward", "5 16"), ("cross_entropy", "5 11"), ("quantise_rows", "5 16"),
        ("adamw", "100"), ("leaf_hashes", "100"), ("read", "100"))},
}


class Bench:
    """A running `card_bench operations` or `card_bench steps`, which answers lines."""

    def __init__(self, card, *arguments):
        self.process = subprocess.Popen([HERE / "card_bench", f"--card={card}", *arguments], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()

    def ask(self, line):
        print(line, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"card_bench ended at: {line}")
        return float(answer)


class Measurement:
    def __init__(self, given):
        self.card, self.seconds = given.card, given.seconds
        self.profiles, self.memory_gb = PROFILES, 0
        self.peers = self.peak = None
        self.cublaslt = False  # whether it is there
        if not given.without_pytorch:
            try:
                import card_peers
                card_peers.use(given.card)
            except (ImportError, RuntimeError, AssertionError) as error:
                sys.exit(f"PyTorch cannot be used: {error}. --without-pytorch measures without comparing.")
            self.peers, self.peak = card_peers, card_peers.fma_peak()

    def operation(self, bench, line, peer=None):
        """Seconds of a call, and of the peer's, medians of turns beside each other."""
        calls = max(1, min(1000, math.ceil(self.seconds / TURNS / max(bench.ask(f"{line} 1"), 1e-7))))
        ours, theirs = [], []
        for _ in range(TURNS):
            ours.append(bench.ask(f"{line} {calls}"))
            if peer:
                theirs.append(self.peers.seconds_of(peer, calls))
        return statistics.median(ours), statistics.median(theirs) if theirs else None

    def peak_text(self):
        return f"{1e-12 * self.peak:.1f}, computed from the highest clock" if self.peak else "not known"

    def print_rate(self, name, shape, operations, ours, theirs):
        """operations: 10^12, those of a call; ours, theirs: seconds of a call."""
        cells = [operations / ours, self.peak and 1e12 * operations / ours / self.peak, theirs and operations / theirs,
                 theirs and theirs / ours]
        print(f"| {name} | {' x '.join(map(str, shape))} | {' | '.join(map(number, cells))} |", flush=True)

    def name_card(self):
        info = subprocess.run([HERE / "card_bench", f"--card={self.card}", "info"], stdout=subprocess.PIPE, text=True)
        if info.returncode != 0:
            sys.exit(1)  # it has said why
        self.capability = int("".join(re.search(r"compute capability (\d+)\.(\d)", info.stdout).groups()))
        self.memory_gb = float(re.search(r", ([\d.]+) GB;", info.stdout)[1])
        if ", fast in " not in info.stdout:
            self.profiles = tuple(profile for profile in PROFILES if profile != "fast")
        return info.stdout.strip()

    # Sections

    def golden(self):
        """The program's own code, and every variant of the sources as the driver compiles it."""
        right = self.digests("the program's code")
        for folder in sorted((HERE / "ptx").iterdir()):
            if int(folder.name.removeprefix("compute_")) > self.capability:
                print(f"- {folder.name}: not for this card", flush=True)
                continue
            right = self.digests(f"{folder.name}, compiled by the driver", f"--ptx={folder}") and right
        done = subprocess.run([HERE / "card_bench", f"--card={self.card}", "--cublaslt", "info"], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        self.cublaslt = done.returncode == 0
        if self.cublaslt:
            right = self.digests("products by cuBLASLt", "--cublaslt") and right
        else:
            print(f"- {done.stdout.strip()}")
        done = subprocess.run([HERE / "card_bench", f"--card={self.card}", "nccl"], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        print(f"- {done.stdout.strip()}\n", flush=True)
        if not right:
            sys.exit("Golden digests are wrong, or fast is; nothing else is worth measuring.")

    def digests(self, what, *arguments):
        done = subprocess.run([HERE / "card_bench", f"--card={self.card}", *arguments, "golden", HERE / "golden.txt"],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        print(f"- {what}: {' '.join(done.stdout.split(chr(10))).strip()}", flush=True)
        return done.returncode == 0

    def sanitizer(self):
        program = shutil.which("compute-sanitizer")
        if program is None:
            print("compute-sanitizer is not in the PATH: not run.\n")
            return
        for tool in SANITIZER_TOOLS:
            done = subprocess.run([program, "--tool", tool, "--error-exitcode", "9", HERE / "card_bench",
                                   f"--card={self.card}", "golden", HERE / "golden.txt", "--only", SHORT_UNITS],
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            last = done.stdout.strip().split("\n")[-1].strip("= ")
            print(f"- compute-sanitizer {tool}: {'passed' if done.returncode == 0 else 'FAILED'}; {last}", flush=True)
            if done.returncode != 0:
                print(f"\n```\n{done.stdout[-3000:]}\n```")
        print()

    def products(self):
        self.linear("matmul", "fp32, PyTorch's by cuBLAS without TF32", lambda *n: self.peers.product(*n))

    def int8(self):
        for by, *option in self.ways():
            self.linear("int8", f"int8{by}; PyTorch's is torch._int_mm (cuBLASLt), which leaves the scales out",
                        lambda *n: self.peers.int8_product(*n), *option)

    def fast(self):
        if "fast" not in self.profiles:
            print("This card does not compute `fast`: not measured.\n")
            return
        for by, *option in self.ways():
            self.linear("fast", f"fast{by}, operands in fp32 and rounded on the way; PyTorch's are bf16 before and after",
                        lambda *n: self.peers.product(*n, self.peers.BF16), *option)
        self.table_attention("fast_attention", "`fast`; PyTorch's in bf16", lambda *n: self.peers.attention(*n, self.peers.BF16))

    def ways(self):
        """Own kernels, and cuBLASLt where it is there: words for it, and the option of card_bench."""
        return [("",)] + [(", by cuBLASLt where it takes the product", "--cublaslt")] * self.cublaslt

    def linear(self, operation, what, peer_of, *options):
        print(f"Products: {what}; TOP/s; fp32 peak: {self.peak_text()}\n\n"
              "| product | m x n x k | ours | of the fp32 peak | PyTorch | ours / PyTorch |\n|---|---|---|---|---|---|")
        ratios = []
        with Bench(self.card, *options, "operations") as bench:
            for name, (tokens, inputs, outputs) in LAYERS.items():
                for form in FORMS:
                    line = f"{operation}_{form} {tokens} {inputs} {outputs}"
                    peer = peer_of(form, tokens, inputs, outputs) if self.peers else None
                    ours, theirs = self.operation(bench, line, peer)
                    shape = {"forward": (tokens, outputs, inputs), "dx": (tokens, inputs, outputs),
                             "dw": (inputs, outputs, tokens)}[form]
                    rate = 2e-12 * tokens * inputs * outputs
                    ratios += [theirs / ours] if theirs else []
                    self.print_rate(f"{name} {form}", shape, rate, ours, theirs)
        if ratios:
            print(f"\nOurs / PyTorch: geometric mean {statistics.geometric_mean(ratios):.2f}, lowest {min(ratios):.2f}")
        print()

    def attention(self):
        self.table_attention("attention", "fp32", lambda *n: self.peers.attention(*n))

    def table_attention(self, operation, what, peer_of):
        print(f"Attention, {what}, causal; the operations are those under the mask; PyTorch's is scaled_dot_product_attention; "
              f"TFLOP/s; fp32 peak: {self.peak_text()}\n\n"
              "| attention | sequences x context x heads x size | ours | of the fp32 peak | PyTorch | ours / PyTorch |\n"
              "|---|---|---|---|---|---|")
        with Bench(self.card, "operations") as bench:
            for shape in ATTENTION:
                sequences, context, heads, size = shape
                for way, products in (("forward", 2), ("backward", 5)):
                    peer = peer_of(way, *shape) if self.peers else None
                    ours, theirs = self.operation(bench, f"{operation}_{way} {' '.join(map(str, shape))}", peer)
                    rate = 1e-12 * products * sequences * heads * context * context * size
                    self.print_rate(way, shape, rate, ours, theirs)
        print()

    def memory(self):
        print("Operations that memory bounds, and what a segment's digest costs: what must be read and written, once each\n\n"
              "| operation | GB/s | of the copy |\n|---|---|---|")
        copy = None
        with Bench(self.card, "operations") as bench:
            for line, transferred in MEMORY.items():
                ours, _ = self.operation(bench, line)
                rate = transferred / ours
                copy = copy or rate
                print(f"| {line} | {rate * 1e-9:.0f} | {rate / copy:.2f} |", flush=True)
        print()

    def steps(self):
        print("Training steps (forward, backward, AdamW), tokens/s; PyTorch: SDPA, fused AdamW, fp32 without TF32, and bf16 by "
              "autocast\n\n| model | ours | tokens/s | PyTorch eager fp32 | compiled fp32 | eager bf16 | compiled bf16 | "
              "ours / compiled fp32 | ours / compiled bf16 |\n|---|---|---|---|---|---|---|---|---|")
        for name, shape in SHAPES.items():
            if self.memory_gb < NEEDED_GB.get(name, 0):
                continue
            peers = self.peers.training(shape) if self.peers else {}
            for profile in self.profiles:
                ways = self.ways() if profile != "exact-fp32" else [("",), (", launches one by one", "--one-by-one")]
                for by, *option in ways:
                    self.step(name, shape, profile, peers, by, *option)
        print()

    def step(self, name, shape, profile, peers, by, *option):
        options = [f"--{key}={value}" for key, value in
                   zip(("layers", "heads", "channels", "vocabulary", "batch", "context"), shape)]
        with Bench(self.card, *option, "steps", f"--profile={profile}", *options) as bench:
            count = max(1, min(200, math.ceil(self.seconds / max(bench.ask(1), 1e-6))))
            times = {"ours": []} | {peer: [] for peer in peers}
            for _ in range(TURNS):
                times["ours"].append(bench.ask(count) / count)
                for peer, step in peers.items():
                    times[peer].append(self.peers.seconds_of(step, count))
        tokens = shape[4] * shape[5]
        rates = {what: tokens / statistics.median(each) for what, each in times.items()}
        cells = [f"{rates[peer]:,.0f}" if peer in rates else "-" for peer in
                 ("eager fp32", "compiled fp32", "eager bf16", "compiled bf16")]
        ratios = [number(rates["ours"] / rates[peer] if peer in rates else None) for peer in ("compiled fp32", "compiled bf16")]
        print(f"| {name}, {shape[4]} x {shape[5]} | {profile}{by} | {rates['ours']:,.0f} | {' | '.join(cells + ratios)} |",
              flush=True)


def number(value):
    return "-" if value is None else f"{value:.2f}"


SECTIONS = ("golden", "sanitizer", "products", "int8", "attention", "fast", "memory", "steps")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--card", type=int, default=0, help="its number, as `gradminer devices` counts (default 0)")
    parser.add_argument("--seconds", type=float, default=0.5, help="for each line of a table (default 0.5)")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, help="golden always comes first")
    parser.add_argument("--without-pytorch", action="store_true", help="no comparisons")
    parser.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)  # for the test, on a driver without cards
    given = parser.parse_args()
    if given.tiny:
        globals().update(TINY)
    measurement = Measurement(given)
    print(f"{datetime.date.today()}: {measurement.name_card()}. {measurement.peers.version() if measurement.peers else ''}\n"
          f"`measure_card.py {' '.join(sys.argv[1:])}`, medians of {TURNS} turns\n", flush=True)
    measurement.golden()
    for section in SECTIONS[1:]:
        if section in given.only:
            getattr(measurement, section)()


if __name__ == "__main__":
    main()
