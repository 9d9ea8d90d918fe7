"""Directed cases: numerics_numpy.py's fma against exact fractions; elementary functions, the int8 quantiser and its
products against numerics_numpy.py, to the bit.

usage: numerics_cases_test.py ORACLE_DRIVER
"""

import fractions
import itertools
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

import numerics_numpy as numerics
from numerics_numpy import f32


def nearest_fp32(x):
    """Of a fraction, ties to even."""
    quantum = fractions.Fraction(2) ** -149  # of denormals
    while abs(x) >= quantum * 2**24:
        quantum *= 2
    return f32(float(round(x / quantum) * quantum))  # Python rounds a fraction's ties to even; 2^128 becomes infinity


def check_fma():
    """All triples of numbers that lie around powers of two, whose sums fall on ties and next to them."""
    powers = [-149, -126, -125, -75, -74, -63, -24, -23, -1, 0, 1, 23, 127]
    near = [f32(2.0**e) for e in powers] + [np.nextafter(f32(2.0**e), f32(d)) for e in powers for d in (0, np.inf)]
    factors = np.array(sorted(set(near) - {f32(0)}))
    terms = np.concatenate([-factors, factors, [f32(3) * f32(2.0**-149)]])
    a, b, c = (np.array(x, f32) for x in zip(*itertools.product(factors, factors, terms)))
    with_float64 = (a.astype(np.float64) * b + c).astype(f32)
    fused = numerics.fma(a, b, c)
    # What is far from all ties needs no fraction: every triple where rounding twice might matter, and each 50th other.
    chosen = np.flatnonzero((fused != with_float64) | (np.arange(len(a)) % 50 == 0))
    for i in chosen:
        exact_a, exact_b, exact_c = (fractions.Fraction(float(x[i])) for x in (a, b, c))
        exact = nearest_fp32(exact_a * exact_b + exact_c)
        assert fused[i] == exact, f"fma({a[i]}, {b[i]}, {c[i]}) gives {fused[i]}, not {exact}"
    twice = np.count_nonzero(fused != with_float64)
    assert twice > 0, "no case where rounding twice is wrong"
    zero, minus = f32(0), f32(-0.0)
    assert not np.signbit(numerics.fma(zero, minus, zero)) and np.signbit(numerics.fma(zero, minus, minus))
    assert numerics.fma(f32(3e38), f32(2), f32(1)) == np.inf and np.isnan(numerics.fma(f32(np.inf), zero, zero))
    print(f"fma: {len(chosen)} of {len(a)} triples against fractions; rounding twice would be wrong in {twice}")


def vectors():
    """Rows of one width, each a case of the quantiser."""
    limit = f32(2.0**-100)
    below, above = np.nextafter(limit, f32(0)), np.nextafter(limit, f32(1))
    half = [i + 0.5 for i in range(127)]  # amax = 127: p is x itself, and lies on a tie
    low = [f32(i / 508) for i in range(1, 64, 2)]  # the product with 254 rounds to a tie
    cases = [
        [127, *half], [-127, *(-x for x in half)], [127, *low, *(-x for x in low)],
        [127, *(np.nextafter(f32(x), f32(0)) for x in half)], [127, *(np.nextafter(f32(x), f32(200)) for x in half)],
        [127, *(np.nextafter(x, f32(0)) for x in low), *(np.nextafter(x, f32(1)) for x in low)],
        [below, -below, 0], [limit, -limit, limit / 254], [above, limit, limit / 3],
        [2.0**-149, -(2.0**-140)], [1, 2.0**-149, -(2.0**-127)], [0], [-0.0] * 5, [1, -0.0, 0.0],
        [np.finfo(f32).max, np.finfo(f32).max / 254, -1], [3, np.inf], [3, -np.inf, np.nan], [np.nan], [1, np.nan],
    ]
    cases = [np.pad(np.array(case, f32), (0, 150 - len(case))) for case in cases]
    random = np.random.default_rng(3).standard_normal((300, 150)).astype(f32)  # 127 / amax rounds both ways
    return np.concatenate([cases, random])


def answers(driver, command, inputs, layout):
    """What oracle_driver says to the inputs: an array for each (type, shape) of the layout."""
    with tempfile.TemporaryDirectory() as folder:
        input, output = pathlib.Path(folder) / "in", pathlib.Path(folder) / "out"
        input.write_bytes(b"".join(values.tobytes() for values in inputs))
        subprocess.run([driver, command, input, output], check=True)
        data = output.read_bytes()
    found, at = [], 0
    for dtype, shape in layout:
        found.append(np.frombuffer(data, dtype, int(np.prod(shape)), at).reshape(shape))
        at += found[-1].nbytes
    assert at == len(data), f"{len(data)} bytes, not {at}"
    return found


def check_equal(what, names, ours, theirs):
    for name, our, their in zip(names, ours, theirs, strict=True):
        same = our == their if our.dtype == np.int8 else our.view(np.uint32) == their.view(np.uint32)
        same |= np.isnan(our) & np.isnan(their)  # which NaN is not defined
        assert same.all(), (f"{what}: {name} at {np.argwhere(~same)[0]}: {our[~same][0]!r}, not {their[~same][0]!r}; "
                            f"{np.count_nonzero(~same)} of {same.size}")
    print(f"{what}: equal")


def check_functions(driver):
    """tanh through GELU; exp through SwiGLU, and alone as a gradient where one logit is 0; log through the loss."""
    every = np.arange(0, 2**32, 2**32 // 40000, dtype=np.uint64).astype(np.uint32).view(f32)  # 78 in a power of two
    random = np.random.default_rng(5)
    edges = np.array([-87, 88.7228394, 10, 7.9, 0, 2.0**-126, 2.0**-149, np.inf, np.nan, 1, np.log(2) / 2], f32)
    edges = np.concatenate([edges] + [np.nextafter(edges, f32(d)) for d in (-np.inf, np.inf)])
    x = np.concatenate([every, edges, -edges, random.uniform(-100, 100, 50000).astype(f32),
                        random.uniform(-1, 1, 100000).astype(f32)])
    layouts = [np.stack([np.zeros_like(x), y], axis=1) for y in (-np.abs(x), x)]  # of the first, e = 1 and exp(x)
    layouts += [random.uniform(-9, 9, (4000 // n, n)).astype(f32) for n in (3, 50, 1000)]  # log of up to 1,000
    for logits in layouts:
        ours = answers(driver, "functions", [np.array(logits.shape, "<u8"), logits],
                       [(f32, logits.shape), (f32, logits.shape), (f32, (len(logits),)), (f32, logits.shape)])
        losses, dlogits = numerics.cross_entropy(logits, np.zeros(len(logits), int), numerics.ONE)
        gelu, _ = numerics.gelu(logits)
        swiglu, _ = numerics.swiglu(np.stack([logits, np.ones_like(logits)], axis=-1))
        check_equal(f"functions of {logits.shape}", ["GELU", "SwiGLU", "loss", "dlogits"], ours,
                    [gelu, swiglu[..., 0], losses, dlogits])


def theirs(x, w, factors):
    q, low, s = numerics.quantise(x)
    column_q, column_low, column_s = numerics.quantise((factors[:, None] * x).T)
    w_q, _, w_s = numerics.quantise(w)
    products = [(numerics.digit_product(q, second, w_q.T) * s[:, None]) * w_s for second in (None, low)]
    return [q, low, s, column_q.T, column_low.T, column_s, *products]


def check_int8(driver, what, x, w, factors):
    m, k, n = *x.shape, len(w)
    layout = [(np.int8, (m, k)), (np.int8, (m, k)), (f32, (m,)), (np.int8, (m, k)), (np.int8, (m, k)), (f32, (k,)),
              (f32, (m, n)), (f32, (m, n))]
    names = ["row digits", "row second digits", "row scales", "column digits", "column second digits", "column scales",
             "products", "products of two digits"]
    ours = answers(driver, "int8", [np.array([m, n, k], "<u8"), x, w, factors], layout)
    check_equal(f"int8, {what}", names, ours, theirs(x, w, factors))


def check_known_digits():
    """The quantiser's cases again by hand: numerics_numpy.py itself may be wrong."""
    q, low, s = numerics.quantise(np.array([127, 0.5, 1.5, 2.5, -0.5, -126.5, 1 / 508, 0.25], f32))
    assert q.tolist() == [127, 0, 2, 2, 0, -126, 0, 0] and s == 1, (q, s)
    assert low.tolist() == [0, 127, -127, 127, -127, -127, 0, 64], low  # 63.5 is a tie, and so is 254 / 508
    limit = f32(2.0**-100)
    for x, scale in (limit, limit / f32(127)), (np.nextafter(limit, f32(0)), 0), (f32(-0.0), 0):
        q, low, s = numerics.quantise(np.array([x, 0], f32))
        assert s == scale and q.tolist() == [127 if scale else 0, 0] and low.tolist() == [0, 0], (x, q, low, s)


def main(driver):
    check_fma()
    check_functions(driver)
    check_known_digits()
    random = np.random.default_rng(4)
    x = vectors()
    w = random.standard_normal((7, x.shape[1])).astype(f32)
    check_int8(driver, "vectors as rows", x, w, random.standard_normal(len(x)).astype(f32))
    w = random.standard_normal((3, len(x))).astype(f32)
    check_int8(driver, "vectors as columns", np.ascontiguousarray(x.T), w, np.ones(x.shape[1], f32))

    terms = 133144
    largest, upper, lower = np.ones(terms, f32), np.full(terms, 126.5, f32), np.full(terms, 125.5, f32)
    upper[0] = lower[0] = 127  # second digits 127 and -127
    x = np.stack([largest, -largest, upper, lower, random.standard_normal(terms).astype(f32)])
    w = np.stack([largest, -largest, x[-1]])
    q, low, _ = numerics.quantise(x)
    assert (q[0] == 127).all() and (q[1] == -127).all() and (low[2][1:] == 127).all() and (low[3][1:] == -127).all()
    check_int8(driver, f"{terms} terms", x, w, np.ones(len(x), f32))


if __name__ == "__main__":
    main(*sys.argv[1:])
