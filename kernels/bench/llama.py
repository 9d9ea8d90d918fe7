"""LLaMA in PyTorch, as the benchmarks train it."""
import torch
from torch import nn
from torch.nn import functional


class RmsNorm(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.weight


def rope_table(context, head_size):
    """cos and sin of the angles, (context, head_size / 2)."""
    frequencies = 10000 ** -(torch.arange(0, head_size, 2) / head_size)
    angles = torch.arange(context)[:, None] * frequencies
    return angles.cos(), angles.sin()


def rotated(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(x.dtype)


class Layer(nn.Module):
    def __init__(self, heads, kv_heads, channels, inner):
        super().__init__()
        self.heads, self.kv_heads, self.size = heads, kv_heads, channels // heads
        self.norm_1, self.norm_2 = RmsNorm(channels), RmsNorm(channels)
        self.qkv = nn.Linear(channels, (heads + 2 * kv_heads) * self.size, bias=False)
        self.proj = nn.Linear(channels, channels, bias=False)
        self.gate_up, self.down = nn.Linear(channels, 2 * inner, bias=False), nn.Linear(inner, channels, bias=False)

    def forward(self, x, cos, sin):
        batch, context, channels = x.shape
        heads = self.qkv(self.norm_1(x)).view(batch, context, -1, self.size).transpose(1, 2)
        q, k, v = heads.split((self.heads, self.kv_heads, self.kv_heads), 1)
        k, v = (part.repeat_interleave(self.heads // self.kv_heads, 1) for part in (rotated(k, cos, sin), v))
        attention = functional.scaled_dot_product_attention(rotated(q, cos, sin), k, v, is_causal=True)
        x = x + self.proj(attention.transpose(1, 2).reshape(batch, context, channels))
        gate, up = self.gate_up(self.norm_2(x)).chunk(2, -1)
        return x + self.down(functional.silu(gate) * up)


class Llama(nn.Module):
    def __init__(self, layers, heads, kv_heads, channels, inner, vocabulary, context):
        super().__init__()
        self.token, self.head = nn.Embedding(vocabulary, channels), nn.Linear(channels, vocabulary, bias=False)
        self.layers = nn.ModuleList(Layer(heads, kv_heads, channels, inner) for _ in range(layers))
        self.norm = RmsNorm(channels)
        for name, table in zip(("cos", "sin"), rope_table(context, channels // heads)):
            self.register_buffer(name, table)

    def loss(self, inputs, targets):
        x = self.token(inputs)
        for layer in self.layers:
            x = layer(x, self.cos, self.sin)
        return functional.cross_entropy(self.head(self.norm(x)).flatten(0, 1), targets.flatten())
