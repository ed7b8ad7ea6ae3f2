"""Random weights by role, small configurations and a bare decoder: what the graph tests are made of."""

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort

from edge.bundle.manifest import DECODER, DECODER_INT8_CACHE
from edge.engine.session import open_session
from export.arrays import F32
from export.checkpoint.config import ModelConfig, TextConfig, VisionConfig
from export.checkpoint.names import expected
from export.recipe import Recipe, Rule, Scheme, Thresholds

TEXT = TextConfig(
    hidden_size=96, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=32, intermediate_size=136, vocab_size=131,
    context=256, rotary_share=1.0, rope_base=10_000.0, rope_scaling=None, norm_eps=1e-5, attention_bias=False,
    mlp_bias=False, tied=False, logit_scale=1.0,
)  # fmt: skip
VISION = VisionConfig(
    tile_px=64, patch_px=4, hidden_sizes=(16, 24, 32, 48), depths=(1, 1, 2, 1), max_tiles=4, tokens_per_tile=1,
    pos_embed=True, resample="bilinear", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), crop_share=0.875,
)  # fmt: skip


def model(text: TextConfig = TEXT, vision: VisionConfig | None = None) -> ModelConfig:
    return ModelConfig("yasa2" if vision else "yasa", "Test", text, vision, (), ())


def recipe(scheme: Scheme) -> Recipe:
    """One scheme for everything but the embedding table, which is never int4."""
    table: Scheme = "int8" if scheme == "int4" else scheme
    return Recipe(scheme, (Rule("*", scheme), Rule("decoder.embed", table)), Thresholds())


class RandomWeights:
    """Stands in for `Weights`: the same values for the same role, whatever the order of asking."""

    def __init__(self, config: ModelConfig) -> None:
        self._shapes = dict(expected(config))
        self._tied = config.text.tied

    def has(self, role: str) -> bool:
        return role in self._shapes

    def shape(self, role: str) -> tuple[int, ...]:
        return self._shapes[role]

    def tensor(self, role: str, *, rows: slice | None = None) -> F32:
        role = "text.embed" if role == "text.head" and self._tied else role
        shape = self._shapes[role]
        values = np.random.default_rng(zlib.crc32(role.encode())).standard_normal(shape).astype(np.float32)
        if len(shape) > 1:
            values *= np.float32(np.prod(shape[1:]) ** -0.5)
        elif role.endswith("weight") or role == "text.norm":
            values = 1 + np.float32(0.1) * values
        return values if rows is None else values[rows]


class Conversations:
    """A decoder session with its cache: rows go in, logits come out, lengths can be set back."""

    def __init__(
        self, folder: Path, config: TextConfig, *, batch: int = 1, threads: int = 1, int8_cache: bool = False
    ) -> None:
        self._session = open_session(folder / (DECODER_INT8_CACHE if int8_cache else DECODER), threads=threads)
        shape = (batch, config.n_kv_heads, 96, config.head_dim)
        names = [f"{layer}.{part}" for layer in range(config.n_layers) for part in ("key", "value")]
        # What is not written is not read.
        self.cache = {name: np.full(shape, 99, np.int8) if int8_cache else np.full(shape, np.nan, np.float32)
                      for name in names}  # fmt: skip
        self.lengths = [0] * batch

    def step(self, embeds: F32, *, n_logits: int | None = None) -> F32:
        """embeds: (B, S, H) -> logits (B, n_logits or S, V)."""
        self.lengths = [length + embeds.shape[1] for length in self.lengths]
        binding = self._session.io_binding()
        kept = {
            "embeds": np.ascontiguousarray(embeds),
            "seqlens_k": np.array(self.lengths, np.int32) - 1,
            "total_sequence_length": np.array(max(self.lengths), np.int32),
            "n_logits": np.array([n_logits or embeds.shape[1]]),
        }
        for name, value in kept.items():
            binding.bind_cpu_input(name, value)
        for name, array in self.cache.items():
            value = ort.OrtValue.ortvalue_from_numpy(array)
            binding.bind_ortvalue_input(f"past.{name}", value)
            binding.bind_ortvalue_output(f"present.{name}", value)
        binding.bind_output("logits")
        self._session.run_with_iobinding(binding)
        return binding.get_outputs()[-1].numpy().copy()

    def chunks(self, embeds: F32, sizes: Sequence[int]) -> F32:
        """The logits of one conversation from its start, fed in chunks of these sizes."""
        self.lengths, starts = [0], np.cumsum([0, *sizes])
        parts = [self.step(embeds[:, a:b]) for a, b in zip(starts[:-1], starts[1:], strict=True)]
        return np.concatenate(parts, axis=1)
