"""reka-edge-tiny in PyTorch: the yasa2 architecture scaled down, its parameters named as in a released checkpoint."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scripts.tiny.lessons.sizes import CODE, FOUND, KINDS, RIMS, TALLY, Shape

BRIGHT = 0.5  # the length of an embed for each unit of its code
TWINS, AIM, LATER = (1, 2, 3, 4), 4, 5  # the layers whose first head is shown where to look, a shape's or an answer's
NAMED, REMEMBERED = 0, 2  # the layers that have to know of which kind a cell's shape is, and which was named last
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# B batch, C channels, G side of the feature map, L positions, H hidden size


class ResponseNorm(nn.Module):
    """Global response normalisation over the two spatial axes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 1, 1, width))
        self.bias = nn.Parameter(torch.zeros(1, 1, 1, width))

    def forward(self, x: Tensor) -> Tensor:  # (B, G, G, C)
        norm = x.float().square().sum((1, 2), keepdim=True).add(1e-12).sqrt()
        scale = norm / (norm.mean(-1, keepdim=True) + 1e-6)
        factor = (self.weight * scale + 1).to(x.dtype)
        # One pass over x instead of four: norms and activations take longer than the matrices here.
        return torch.addcmul(self.bias.to(x.dtype).expand_as(factor), x, factor)


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.layernorm = nn.LayerNorm(width, eps=1e-6)
        self.pwconv1 = nn.Linear(width, 4 * width)
        self.grn = ResponseNorm(4 * width)
        self.pwconv2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, G, G)
        y: Tensor = self.layernorm(self.dwconv(x).permute(0, 2, 3, 1))
        y = self.pwconv2(self.grn(F.gelu(self.pwconv1(y))))
        return x + y.permute(0, 3, 1, 2)


class ChannelNorm(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:  # (B, C, G, G)
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Stage(nn.Module):
    def __init__(self, before: int, width: int, depth: int, *, first: bool) -> None:
        super().__init__()
        down = [] if first else [ChannelNorm(before, eps=1e-6), nn.Conv2d(before, width, 2, 2)]
        self.downsampling_layer = nn.Sequential(*down)
        self.layers = nn.Sequential(*[Block(width) for _ in range(depth)])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(self.downsampling_layer(x))
        return out


class Embeddings(nn.Module):
    def __init__(self, width: int, patch_px: int) -> None:
        super().__init__()
        self.patch_embeddings = nn.Conv2d(3, width, patch_px, patch_px)
        self.layernorm = ChannelNorm(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layernorm(self.patch_embeddings(x))
        return out


class Encoder(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        befores = (0, *shape.dims[:-1])
        stages = zip(befores, shape.dims, shape.depths, strict=True)
        self.stages = nn.ModuleList([Stage(b, w, d, first=b == 0) for b, w, d in stages])

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The map of features that each stage gives, the finest first."""
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return tuple(maps)


class Backbone(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embeddings = Embeddings(shape.dims[0], shape.patch_px)
        self.encoder = Encoder(shape)
        self.layernorm = nn.LayerNorm(shape.dims[-1], eps=1e-6)  # stored in checkpoints, applied to nothing

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        maps: tuple[Tensor, ...] = self.encoder(self.embeddings(x))
        return maps


class VisionModel(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.backbone = Backbone(shape)


class Attention(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.width = shape.heads, shape.kv_heads, shape.hidden_size // shape.heads
        self.q_proj = nn.Linear(shape.hidden_size, shape.heads * self.width, bias=False)
        self.k_proj = nn.Linear(shape.hidden_size, shape.kv_heads * self.width, bias=False)
        self.v_proj = nn.Linear(shape.hidden_size, shape.kv_heads * self.width, bias=False)
        self.o_proj = nn.Linear(shape.heads * self.width, shape.hidden_size, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:  # (B, L, H)
        """Returns (B, L, H), and how much the first head is drawn to each position: (B, L, L) before the softmax."""
        q = rotate(self.q_proj(x).unflatten(-1, (self.heads, self.width)).transpose(1, 2), cos, sin)
        k = rotate(self.k_proj(x).unflatten(-1, (self.kv_heads, self.width)).transpose(1, 2), cos, sin)
        v = self.v_proj(x).unflatten(-1, (self.kv_heads, self.width)).transpose(1, 2)
        k, v = (t.repeat_interleave(self.heads // self.kv_heads, 1) for t in (k, v))
        # Written out: at these lengths it takes a third of the time of torch's fused attention on a CPU.
        drawn = (q * self.width**-0.5) @ k.transpose(-1, -2) + mask
        y = drawn.softmax(-1) @ v
        return self.o_proj(y.transpose(1, 2).flatten(2)), drawn[:, 0]


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns the first 2 R of each head's places, cos and sin being (B, 1, L, R), and leaves the others."""
    first, second, rest = x.float().split([cos.shape[-1], cos.shape[-1], x.shape[-1] - 2 * cos.shape[-1]], -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin, rest], -1).to(x.dtype)


class Mlp(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.up_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.down_proj = nn.Linear(shape.intermediate_size, shape.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class RootNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * self.weight


class Layer(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm = RootNorm(shape.hidden_size)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = RootNorm(shape.hidden_size)
        self.mlp = Mlp(shape)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        y, drawn = self.self_attn(self.input_layernorm(x), cos, sin, mask)
        x = x + y
        return x + self.mlp(self.post_attention_layernorm(x)), drawn


class LanguageModel(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList([Layer(shape) for _ in range(shape.layers)])
        self.norm = RootNorm(shape.hidden_size)
        self.n_rotated = int(shape.hidden_size // shape.heads * shape.rotary_pct) // 2

    @property
    def blocks(self) -> list[Layer]:
        """The layers, the first one first."""
        return [layer for layer in self.layers if isinstance(layer, Layer)]

    def forward(self, x: Tensor, places: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """x: (B, L, H) embeddings; places: (B, L) their positions.

        Returns what each layer gives, (B, L, H), the last one's normed, and where its first head looks: (B, L, L).
        """
        speeds = 10000.0 ** (-torch.arange(self.n_rotated) / self.n_rotated)
        angles = places[:, None, :, None] * speeds
        cos, sin = angles.cos(), angles.sin()
        mask = torch.full((x.shape[1], x.shape[1]), -torch.inf).triu(1)
        states, looks = [], []
        for layer in self.blocks:
            x, drawn = layer(x, cos, sin, mask)
            states.append(x)
            looks.append(drawn)
        return [*states[:-1], self.norm(x)], looks


class Body(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.vision_model = VisionModel(shape)
        self.language_projection = nn.Sequential(
            nn.Linear(shape.dims[-1], shape.hidden_size), nn.GELU(), nn.Linear(shape.hidden_size, shape.hidden_size)
        )
        self.language_model = LanguageModel(shape)


class Yasa(nn.Module):
    """The model, its tensors named as in a released checkpoint; what else it has only serves the training."""

    basis: Tensor
    positions: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.model = Body(shape)
        self.lm_head = nn.Linear(shape.hidden_size, shape.vocab_size, bias=False)
        self.detector = nn.Linear(shape.dims[-1], FOUND)
        self.tracers = nn.ModuleList([nn.Linear(width, RIMS) for width in shape.dims[:2]])
        self.spotters = nn.ModuleList([nn.Linear(width, FOUND) for width in shape.dims[1:-1]])
        self.stretchers = nn.ModuleList([nn.Linear(width, 1) for width in shape.dims[2:]])
        self.namer = nn.Linear(shape.hidden_size, KINDS)
        self.rememberer = nn.Linear(shape.hidden_size, KINDS + 1)
        self.counters = nn.ModuleList([nn.Linear(shape.hidden_size, 2) for _ in TWINS])
        self.describer = nn.Linear(shape.hidden_size, CODE - 2)
        self.tallier = nn.Linear(shape.hidden_size, TALLY)
        self.register_buffer("basis", basis(shape.hidden_size), persistent=False)
        self.register_buffer("positions", position_table(shape.dims[-1])[: shape.tokens], persistent=False)
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)
        self.apply(start)

    def look(self, tiles: Tensor) -> tuple[Tensor, ...]:
        """tiles: (B, 3, T, T) uint8. Returns the four stages' maps: (B, 64 * G * G, C), …, (B, G * G, C)."""
        tiles = ((tiles.float() / 255 - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        return tuple(found.flatten(2).transpose(1, 2) for found in self.model.vision_model.backbone(tiles))

    def deepen(self, third: Tensor) -> Tensor:
        """third: (B, 4 * G * G, C), the map that the last stage begins with. Returns the last one: (B, G * G, C)."""
        side = 2 * self.shape.grid
        spread = third.transpose(1, 2).unflatten(2, (side, side)).contiguous(memory_format=torch.channels_last)
        last: Tensor = self.model.vision_model.backbone.encoder.stages[-1](spread)
        return last.flatten(2).transpose(1, 2)

    def project(self, features: Tensor) -> Tensor:
        """features: (B, G * G, C). Returns embeddings (B, G * G, H)."""
        embeddings: Tensor = self.model.language_projection(features.float() + self.positions)
        return embeddings

    def ideal_embeddings(self, code: Tensor) -> Tensor:
        """code: (B, G * G, CODE) as labels.code gives it. Returns the embeddings (B, G * G, H) of a perfect tower."""
        return code @ self.basis

    def read(self, embeddings: Tensor, places: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """embeddings: (B, L, H); places: (B, L) their positions. Returns what LanguageModel does."""
        given: tuple[list[Tensor], list[Tensor]] = self.model.language_model(embeddings, places)
        return given


def basis(width: int) -> Tensor:
    """(CODE, width) float32: a direction for each thing that there is to say of a cell, all at right angles.

    It is agreed on before anything is learned, so that tower and decoder can be taught apart and still understand each
    other.
    """
    random = torch.randn(width, CODE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    directions: Tensor = torch.linalg.qr(random)[0]
    return BRIGHT * directions.T.float().contiguous()


def start(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.trunc_normal_(module.weight, std=0.02 if module.weight[0].numel() > 60 else 0.1)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    if isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=0.05)  # as long as the embeddings of an image


def position_table(width: int) -> Tensor:
    """(2500, width) float32: the 50 x 50 grid's sin/cos table, row by row, column coordinate's half first."""
    quarter = width // 4
    omega = 10000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    cells = torch.arange(50, dtype=torch.float64)
    half = torch.cat([(cells[:, None] * omega).sin(), (cells[:, None] * omega).cos()], 1)  # (50, width / 2)
    columns, rows = half[None].expand(50, 50, -1), half[:, None].expand(50, 50, -1)
    return torch.cat([columns, rows], -1).reshape(2500, width).float()


def parameter_count(model: nn.Module) -> int:
    return sum(math.prod(p.shape) for p in model.parameters())
