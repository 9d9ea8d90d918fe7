"""GPT-2 in PyTorch, as the benchmarks train it."""
from torch import nn
from torch.nn import functional


class Layer(nn.Module):
    def __init__(self, heads, channels):
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.qkv, self.proj = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.inner, self.outer = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)

    def forward(self, x):
        batch, context, channels = x.shape
        q, k, v = (part.view(batch, context, self.heads, -1).transpose(1, 2)
                   for part in self.qkv(self.norm_1(x)).split(channels, 2))
        attention = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(attention.transpose(1, 2).reshape(batch, context, channels))
        return x + self.outer(functional.gelu(self.inner(self.norm_2(x)), approximate="tanh"))


class Gpt2(nn.Module):
    def __init__(self, layers, heads, channels, vocabulary, context):
        super().__init__()
        self.token, self.position = nn.Embedding(vocabulary, channels), nn.Embedding(context, channels)
        self.layers = nn.Sequential(*(Layer(heads, channels) for _ in range(layers)))
        self.norm = nn.LayerNorm(channels)

    def loss(self, inputs, targets):
        x = self.token(inputs) + self.position.weight[:inputs.shape[1]]
        logits = functional.linear(self.norm(self.layers(x)), self.token.weight)
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
