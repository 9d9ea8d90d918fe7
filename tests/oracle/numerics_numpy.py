"""docs/numerics.md a second time, in NumPy: loss and gradients of the exact profiles, to the bit.

Written from that text alone and shares nothing with kernels/. It is slow: a Python loop over the terms of every
contraction. The sections are the document's; arrays are fp32 where nothing else is said.
"""

import fractions
import math

import numpy as np

np.seterr(all="ignore")  # infinities and underflow are values here

f32 = np.float32

# ---- 1. Values and operations. NumPy's + - * / sqrt on fp32 round once; fma is made here.


def fma(a, b, c):
    """a * b + c, rounded once: the exact product in binary64, the sum rounded to odd there, then to fp32."""
    product = np.multiply(a, b, dtype=np.float64)  # 48 bits at most: exact
    c = np.asarray(c, dtype=np.float64)
    total = product + c
    c_in_total = total - product
    error = (product - (total - c_in_total)) + (c - c_in_total)  # total + error is the exact sum (Knuth's two-sum)
    inexact = (error < 0) | (error > 0)  # not for infinity and NaN, whose error is NaN
    # Towards zero, then the last bit set where something was cut off: no later tie is a false one.
    cut = np.asarray(total).view(np.int64) - (inexact & ((error > 0) != (total > 0)))
    return (cut | inexact).view(np.float64).astype(f32)


def fma64(a, b, c):
    """Python's floats, finite, no zero result of two negative zeros: the exact sum, rounded once."""
    return float(fractions.Fraction(a) * fractions.Fraction(b) + fractions.Fraction(c))


def bits(x):
    return x.view(np.uint32)


def float_of_bits(n):
    return n.view(f32)


def constant(hexadecimal):
    return f32(float.fromhex(hexadecimal))


# ---- 2. Elementary functions

LOG2E, MAGIC = constant("0x1.715476p+0"), constant("0x1.8p+23")
LN2_HIGH, LN2_LOW = constant("0x1.62e430p-1"), constant("-0x1.05c610p-29")
E = [constant(e) for e in ("0x1.000000p-1", "0x1.5554b0p-3", "0x1.555488p-5", "0x1.1227e8p-7", "0x1.6d98eap-10")]
L = [constant(e) for e in ("0x1.55557ap-1", "0x1.995efep-2", "0x1.31dd06p-2")]
SQRT_HALF_BITS = np.uint32(0x3F3504F3)
ONE, HALF = f32(1), f32(0.5)


def reduction(x):
    t = fma(x, LOG2E, MAGIC)
    n = t - MAGIC
    r = fma(-n, LN2_LOW, fma(-n, LN2_HIGH, x))
    q = fma(fma(fma(fma(E[4], r, E[3]), r, E[2]), r, E[1]), r, E[0])
    return t, fma(r * r, q, r)


def exp(x):
    t, p = reduction(x)
    y = float_of_bits(bits(ONE + p) + (bits(t) << np.uint32(23)))
    y = np.where(x < f32(-87), f32(0), y)
    return np.where(x <= constant("0x1.62e42ep+6"), y, x + f32(np.inf))


def tanh(x):
    a = np.abs(x)
    a = np.where(a > f32(10), f32(10), a)
    t, p = reduction(a + a)
    s = float_of_bits((bits(t) << np.uint32(23)) + np.uint32(0x3F800000))
    h = fma(p, s, s - ONE)
    return np.copysign(h / (h + f32(2)), x)


def log(x):
    small = x < f32(2.0**-126)
    v = np.where(small, x * f32(2.0**23), x)
    k = (bits(v) - SQRT_HALF_BITS).view(np.int32) >> 23
    f = float_of_bits(bits(v) - (k << 23).view(np.uint32)) - ONE
    d = (k + np.where(small, -23, 0)).astype(f32)
    s = f / (f32(2) + f)
    z = s * s
    r = fma(fma(L[2], z, L[1]), z, L[0]) * z
    h = (HALF * f) * f
    w = fma(s, h + r, d * LN2_LOW)
    y = fma(d, LN2_HIGH, f - (h - w))
    y = np.where(x == 0, f32(-np.inf), y)
    y = np.where(x == f32(np.inf), f32(np.inf), y)
    return np.where(x >= 0, y, f32(np.nan))


HALF_PI_HIGH, HALF_PI_LOW = float.fromhex("0x1.921fb54442d18p+0"), float.fromhex("0x1.1a62633145c07p-54")
MAGIC64 = 1.5 * 2.0**52
S = [(-1) ** (i + 1) / math.factorial(2 * i + 3) for i in range(7)]
C = [(-1) ** (i + 1) / math.factorial(2 * i + 2) for i in range(7)]


def cos_sin(angle):
    """Of one fp32 angle; binary64 within."""
    a = float(angle)
    n = fma64(a, float.fromhex("0x1.45f306dc9c883p-1"), MAGIC64) - MAGIC64
    r = fma64(-n, HALF_PI_LOW, fma64(-n, HALF_PI_HIGH, a))
    z = r * r
    p, c = S[6], C[6]
    for i in range(5, -1, -1):
        p, c = fma64(p, z, S[i]), fma64(c, z, C[i])
    sine, cosine = f32(fma64(r * z, p, r)), f32(fma64(z, c, 1.0))
    return [(cosine, sine), (-sine, cosine), (-cosine, -sine), (sine, -cosine)][int(n) % 4]


# ---- 3. Sums


def contraction(a, b):
    """(..., M, K) and (..., K, N) to (..., M, N)."""
    a, b = a.astype(np.float64), b.astype(np.float64)  # once, not in every fma
    total = f32(0)
    for chunk in range(0, a.shape[-1], 2048):
        acc = f32(0)
        for k in range(chunk, min(chunk + 2048, a.shape[-1])):
            acc = fma(a[..., :, k, None], b[..., k, None, :], acc)
        total = total + acc
    return total


def row_sum(x):
    """R over the last axis."""
    total = f32(0)
    lane = np.arange(32)
    for first in range(0, x.shape[-1], 4096):
        segment = x[..., first : first + 4096]
        padding = [(0, 0)] * (x.ndim - 1) + [(0, -segment.shape[-1] % 32)]
        segment = np.pad(segment, padding)
        lanes = np.zeros(x.shape[:-1] + (32,), f32)
        for i in range(0, segment.shape[-1], 32):
            lanes = lanes + segment[..., i : i + 32]
        for d in (16, 8, 4, 2, 1):
            lanes = lanes + lanes[..., lane ^ d]
        total = total + lanes[..., 0]
    return total


def run_sum(x):
    """Over the first axis, the block's tokens."""
    total = f32(0)
    for run in range(0, len(x), 64):
        acc = f32(0)
        for row in x[run : run + 64]:
            acc = acc + row
        total = total + acc
    return total


# ---- 9. The int8 profiles; sums of integers are exact in int64, and must fit int32


def quantise(x):
    """Vectors along the last axis: digits q and second digits l (as floats), scales s."""
    amax = float_of_bits((bits(x) & np.uint32(0x7FFFFFFF)).max(-1))
    finite = np.isfinite(amax)
    regular = finite & (amax >= f32(2.0**-100))
    p = np.where(regular[..., None], x * (f32(127) / amax)[..., None], f32(0))
    q = np.rint(p)
    s = np.where(regular, amax / f32(127), np.where(finite, f32(0), f32(np.nan)))
    return q, np.rint((p - q) * f32(254)), s


def integer_product(a, b):
    total = a.astype(np.int64) @ b.astype(np.int64)
    assert np.abs(total).max() < 2**31
    return total.astype(f32)


def digit_product(q, low, other):
    total = integer_product(q, other)
    return total if low is None else fma(integer_product(low, other), ONE / f32(254), total)


class Int8Linear:
    """w: (inputs, outputs). A head's gradient has a second digit."""

    def __init__(self, w, is_head):
        self.w, self.is_head = w, is_head

    def forward(self, x):
        self.q_x, _, self.s_x = quantise(x)
        q_f, _, s_f = quantise(self.w.T)
        return (digit_product(self.q_x, None, q_f.T) * self.s_x[:, None]) * s_f

    def backward(self, dy):
        q_r, l_r, s_r = quantise(dy)
        q_b, _, s_b = quantise(self.w)
        dx = (digit_product(q_r, l_r if self.is_head else None, q_b.T) * s_r[:, None]) * s_b
        q_c, l_c, s_c = quantise((self.s_x[:, None] * dy).T)
        dw = digit_product(q_c, l_c if self.is_head else None, self.q_x).T * s_c
        return dx, dw


# ---- 5. Networks: an operation returns its result and a function from the result's gradient to its inputs'.


class Float32Linear:
    """w: (inputs, outputs)."""

    def __init__(self, w):
        self.w = w

    def forward(self, x):
        self.x = x
        return contraction(x, self.w)

    def backward(self, dy):
        return contraction(dy, self.w.T), contraction(self.x.T, dy)


def layer_norm(x, weight, bias, epsilon):
    width = f32(x.shape[-1])
    d = x - (row_sum(x) / width)[:, None]
    rstd = (ONE / np.sqrt(row_sum(d * d) / width + epsilon))[:, None]
    n = d * rstd

    def backward(dy):
        dn = dy * weight
        a, b = row_sum(dn) / width, row_sum(dn * n) / width
        return fma(-n, b[:, None], dn - a[:, None]) * rstd, run_sum(dy * n), run_sum(dy)

    return fma(n, weight, bias), backward


def rms_norm(x, weight, epsilon):
    width = f32(x.shape[-1])
    rstd = (ONE / np.sqrt(row_sum(x * x) / width + epsilon))[:, None]
    n = x * rstd

    def backward(dy):
        dn = dy * weight
        b = row_sum(dn * n) / width
        return fma(-n, b[:, None], dn) * rstd, run_sum(dy * n)

    return n * weight, backward


def rotate(x, c, s):
    """x: (sequences, heads, T, D); c, s: (T, D / 2)."""
    low, high = np.split(x, 2, axis=-1)
    return np.concatenate([fma(low, c, -(high * s)), fma(high, c, low * s)], axis=-1)


def swiglu(gate_up):
    x, u = np.split(gate_up, 2, axis=-1)
    s = ONE / (ONE + exp(-x))

    def backward(dy):
        return np.concatenate([(dy * u) * (s * fma(x, ONE - s, ONE)), dy * (x * s)], axis=-1)

    return (x * s) * u, backward


def gelu(x):
    root = f32(0.7978845608028654)
    t = tanh((x * fma(x * x, f32(0.044715), ONE)) * root)

    def backward(dy):
        h = HALF * x
        q = fma(x * x, f32(0.134145), ONE) * root
        u = fma(-t, t, ONE)
        return dy * fma(h * u, q, fma(HALF, t, HALF))

    return (HALF * x) * (ONE + t), backward


def attention(q, k, v):
    """q: (sequences, H, T, D); k, v: (sequences, K, T, D)."""
    sequences, heads, context, size = q.shape
    group = heads // k.shape[1]
    scale = ONE / np.sqrt(f32(size))
    kh, vh = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)  # head h's key head is h / group
    seen = np.tril(np.ones((context, context), bool))

    s = contraction(q, kh.swapaxes(-1, -2)) * scale
    m = np.where(seen, s, f32(-np.inf)).max(-1)
    e = np.zeros_like(s)
    e[..., seen] = exp((s - m[..., None])[..., seen])
    inv = (ONE / row_sum(e))[..., None]
    o = contraction(e, vh) * inv

    def over_group(x):
        x = x.reshape(sequences, heads // group, group, context, size)
        total = f32(0)
        for g in range(group):
            total = total + x[:, :, g]
        return total

    def backward(do):
        p = e * inv
        dp = contraction(do, vh.swapaxes(-1, -2))
        ds = p * (dp - row_sum(do * o)[..., None])
        dq = contraction(ds, kh) * scale
        dk = over_group(contraction(ds.swapaxes(-1, -2), q)) * scale
        return dq, dk, over_group(contraction(p.swapaxes(-1, -2), do))

    return o, backward


def cross_entropy(logits, targets, g):
    """Losses and dlogits."""
    m = logits.max(-1)
    e = exp(logits - m[:, None])
    s = row_sum(e)
    token = np.arange(len(targets))
    one_hot = np.zeros_like(logits)
    one_hot[token, targets] = 1
    return log(s) + (m - logits[token, targets]), (e * (ONE / s)[:, None] - one_hot) * g


class Block:
    """Forward and backward pass of one block. self.gradients holds the parameters' gradients by name, a head's beside
    an embedding's where they are tied."""

    def __init__(self, config, profile, weights, rows, scale_gradient):
        """rows: (sequences, context + 1) token numbers. scale_gradient: 1 / float(N)."""
        self.config, self.profile, self.weights = config, profile, weights
        self.gradients = {}
        self.ids, targets = rows[:, :-1], rows[:, 1:].reshape(-1)
        y, back = self.network()
        w = weights[config["head"]].T
        head = Int8Linear(w, is_head=True) if profile == "exact-int8-head" else Float32Linear(w)
        self.losses, dlogits = cross_entropy(head.forward(y), targets, scale_gradient)
        dy, dw = head.backward(dlogits)
        self.gradients["head"] = dw.T
        back(dy)

    def embedding(self, name, numbers):
        x = self.weights[name][numbers]

        def backward(dx):
            g = np.zeros_like(self.weights[name])
            for n, row in zip(numbers, dx):
                g[n] = g[n] + row
            self.gradients[name] = g

        return x, backward

    def norm(self, x, name):
        names = [name + ".weight"] + ([name + ".bias"] if name + ".bias" in self.weights else [])
        y, back = (layer_norm if len(names) == 2 else rms_norm)(
            x, *(self.weights[n] for n in names), self.config["epsilon"])

        def backward(dy):
            dx, *parameters = back(dy)
            self.gradients.update(zip(names, parameters))
            return dx

        return y, backward

    def linear(self, x, *names):
        """One linear layer of the stacked outputs of those named."""
        is_gpt2 = self.config["family"] == "gpt2"  # [in, out]; LLaMA: [out, in]
        stack = [self.weights[n + ".weight"] if is_gpt2 else self.weights[n + ".weight"].T for n in names]
        w = np.concatenate(stack, axis=1)
        layer = Float32Linear(w) if self.profile == "exact-fp32" else Int8Linear(w, is_head=False)
        y = layer.forward(x)
        if is_gpt2:
            y = y + self.weights[names[0] + ".bias"]

        def backward(dy):
            dx, dw = layer.backward(dy)
            first = 0
            for n, part in zip(names, stack):
                part = dw[:, first : first + part.shape[1]]
                self.gradients[n + ".weight"] = part if is_gpt2 else part.T
                first += part.shape[1]
            if is_gpt2:
                self.gradients[names[0] + ".bias"] = run_sum(dy)
            return dx

        return y, backward

    def attention(self, qkv):
        heads, kv_heads, size = (self.config[key] for key in ("heads", "kv_heads", "head_size"))
        sequences, context = self.ids.shape

        def split(x):
            x = x.reshape(sequences, context, heads + 2 * kv_heads, size).swapaxes(1, 2)
            return np.split(x, [heads, heads + kv_heads], axis=1)

        def join(x):
            return np.concatenate(x, axis=1).swapaxes(1, 2).reshape(sequences * context, -1)

        q, k, v = split(qkv)
        if self.config["family"] == "llama":
            angles = np.arange(context).astype(f32)[:, None] * self.config["inverse_frequencies"]
            c, s = np.moveaxis(np.array([[cos_sin(a) for a in row] for row in angles], f32), -1, 0)
            q, k = rotate(q, c, s), rotate(k, c, s)
        o, back = attention(q, k, v)

        def backward(do):
            dq, dk, dv = back(do.reshape(sequences, context, heads, size).swapaxes(1, 2))
            if self.config["family"] == "llama":
                dq, dk = rotate(dq, c, -s), rotate(dk, c, -s)
            return join([dq, dk, dv])

        return join([o]), backward

    def layer(self, x, names):
        a, norm_1 = self.norm(x, names["norm_1"])
        qkv, linear_1 = self.linear(a, *names["qkv"])
        o, attention_back = self.attention(qkv)
        y, linear_2 = self.linear(o, names["o"])
        x = y + x
        a, norm_2 = self.norm(x, names["norm_2"])
        f, linear_3 = self.linear(a, *names["in"])
        f, activation_back = (gelu if self.config["family"] == "gpt2" else swiglu)(f)
        y, linear_4 = self.linear(f, names["out"])

        def backward(dx):
            dx = norm_2(linear_3(activation_back(linear_4(dx)))) + dx
            return norm_1(linear_1(attention_back(linear_2(dx)))) + dx

        return y + x, backward

    def network(self):
        backs = []
        x, embedding_back = self.embedding(self.config["embedding"], self.ids.reshape(-1))
        if self.config["family"] == "gpt2":
            positions = np.tile(np.arange(self.ids.shape[1]), len(self.ids))
            p, positions_back = self.embedding("transformer.wpe.weight", positions)
            x = x + p
            backs.append(positions_back)
        backs.append(embedding_back)
        layers = []
        for number in range(self.config["layers"]):
            x, back = self.layer(x, layer_names(self.config["family"], number))
            layers.append(back)
        y, norm_back = self.norm(x, self.config["norm"])

        def backward(dy):
            dx = norm_back(dy)
            for back in reversed(layers):
                dx = back(dx)
            for back in backs:
                back(dx)

        return y, backward


def layer_names(family, number):
    if family == "gpt2":
        h = f"transformer.h.{number}."
        return {"norm_1": h + "ln_1", "qkv": [h + "attn.c_attn"], "o": h + "attn.c_proj",
                "norm_2": h + "ln_2", "in": [h + "mlp.c_fc"], "out": h + "mlp.c_proj"}
    h = f"model.layers.{number}."
    return {"norm_1": h + "input_layernorm", "qkv": [h + f"self_attn.{x}_proj" for x in "qkv"],
            "o": h + "self_attn.o_proj", "norm_2": h + "post_attention_layernorm",
            "in": [h + "mlp.gate_proj", h + "mlp.up_proj"], "out": h + "mlp.down_proj"}


def config_of(keys):
    """What this file needs of a config.json of GPT2Config or LlamaConfig with rope_inverse_frequencies."""
    if keys["model_type"] == "gpt2":
        return {"family": "gpt2", "layers": keys["n_layer"], "heads": keys["n_head"], "kv_heads": keys["n_head"],
                "head_size": keys["n_embd"] // keys["n_head"], "epsilon": f32(keys["layer_norm_epsilon"]),
                "embedding": "transformer.wte.weight", "head": "transformer.wte.weight", "norm": "transformer.ln_f"}
    embedding = "model.embed_tokens.weight"
    return {"family": "llama", "layers": keys["num_hidden_layers"], "heads": keys["num_attention_heads"],
            "kv_heads": keys["num_key_value_heads"], "head_size": keys["hidden_size"] // keys["num_attention_heads"],
            "epsilon": f32(keys["rms_norm_eps"]), "norm": "model.norm", "embedding": embedding,
            "head": embedding if keys["tie_word_embeddings"] else "lm_head.weight",
            "inverse_frequencies": np.array(keys["rope_inverse_frequencies"], f32)}


# ---- 4. Blocks


def gradient(keys, profile, weights, rows):
    """Loss and gradients (by name) of a batch of rows, each context + 1 token numbers."""
    config = config_of(keys)
    batch, context = rows.shape[0], rows.shape[1] - 1
    tokens = f32(batch * context)
    sequences = -(-1024 // context)
    losses, total = [], {}
    for first in range(0, batch, sequences):
        block = Block(config, profile, weights, rows[first : first + sequences], ONE / tokens)
        losses.append(block.losses)
        for name, g in block.gradients.items():
            total[name] = total.get(name, f32(0)) + g
    head = total.pop("head")
    total[config["head"]] = head + total[config["head"]] if config["head"] in total else head
    return row_sum(np.concatenate(losses)) / tokens, total
