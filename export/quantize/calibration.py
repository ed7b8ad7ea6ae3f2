"""Calibration data on its way through the decoder, layer by layer, each layer as it is stored.

Only the residual stream of each sequence is held between layers, and one layer's inputs within it. Every layer sees
what the layers before it will give once they are quantized, so that their errors are corrected, too.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from export.arrays import F32
from export.checkpoint.config import TextConfig
from export.checkpoint.names import Weights
from export.errors import CalibrationError
from export.quantize import gptq
from export.quantize.blocks import Blocks, Format
from export.reference import model as reference

PREFIX: Final = "decoder.layers."
_FOLLOWING: Final[Mapping[str, str]] = {"qkv": "o", "o": "gate_up", "gate_up": "down", "down": "qkv"}


class Calibration:
    """Sequences in the decoder. Layers are met in order: qkv, o, gate_up and down of the first, then of the next.

    prompts: embeddings (S, H) of each sequence; head_order: in which order the rows of query and key heads are stored,
    None for the checkpoint's.
    """

    def __init__(
        self,
        weights: Weights,
        text: TextConfig,
        prompts: Sequence[F32],
        *,
        head_order: npt.NDArray[np.int64] | None = None,
    ) -> None:
        if not prompts:
            raise CalibrationError("calibration: expected at least one text that this model can read, got none")
        self._weights = weights
        self._text = text
        self._streams = [torch.from_numpy(prompt) for prompt in prompts]
        self._angles = reference.rotary_angles(text, max(map(len, prompts)))
        self._unordered = None if head_order is None else _columns(text, np.argsort(head_order))
        self._layer, self._part = 0, "qkv"
        self._inputs = self._normed("text.layers.0.norm1.weight")

    @property
    def n_tokens(self) -> int:
        """Positions of all sequences."""
        return sum(map(len, self._streams))

    def covers(self, path: str) -> bool:
        """Whether the data passes through this layer."""
        return path.startswith(PREFIX)

    def quantize(self, path: str, weight: F32, form: Format) -> Blocks:
        """Quantize the layer that the data has come to, by GPTQ. weight: (n_out, n_in). Raises: CalibrationError."""
        self._expect(path)
        with torch.inference_mode():
            return gptq.quantize(weight, self._moments(), form)

    def advance(self, path: str, stored: F32, bias: F32 | None) -> None:
        """Send the data through the layer as it is stored. stored: (n_out, n_in); bias: (n_out,)."""
        self._expect(path)
        matrix = torch.from_numpy(stored)
        offset = None if bias is None else torch.from_numpy(bias)
        with torch.inference_mode():
            # One after another, the inputs given up as they are used: those of `down` are several times the stream.
            outputs = []
            while self._inputs:
                outputs.append(functional.linear(self._inputs.pop(0), matrix, offset))
            self._take(outputs)
        self._part = _FOLLOWING[self._part]
        self._layer += self._part == "qkv"

    def _take(self, outputs: list[Tensor]) -> None:
        """Make the inputs of the next layer from the outputs of this one."""
        if self._part == "qkv":
            self._inputs = [self._attended(rows) for rows in outputs]
        elif self._part == "o":
            self._add(outputs)
            self._inputs = self._normed(f"text.layers.{self._layer}.norm2.weight")
        elif self._part == "gate_up":
            self._inputs = [functional.silu(gate) * up for gate, up in (rows.chunk(2, -1) for rows in outputs)]
        else:
            self._add(outputs)
            following = self._layer + 1
            if following < self._text.n_layers:
                self._inputs = self._normed(f"text.layers.{following}.norm1.weight")

    def _expect(self, path: str) -> None:
        expected = f"{PREFIX}{self._layer}.{self._part}"
        if path != expected:
            raise CalibrationError(f"calibration: the data has come to {expected}, got {path}")

    def _moments(self) -> Tensor:
        """The sum of x^T x over all inputs x of the layer. (K, K)"""
        size = self._inputs[0].shape[1]
        moments = torch.zeros(size, size)
        for rows in self._inputs:
            moments.addmm_(rows.T, rows)
        return moments

    def _normed(self, role: str) -> list[Tensor]:
        scale = torch.from_numpy(self._weights.tensor(role))
        return [reference.rms_norm(stream, scale, self._text.norm_eps) for stream in self._streams]

    def _add(self, outputs: list[Tensor]) -> None:
        self._streams = [stream + rows for stream, rows in zip(self._streams, outputs, strict=True)]

    def _attended(self, rows: Tensor) -> Tensor:
        """Attention over one sequence. rows: (S, (heads + 2 kv heads) * head_dim) -> (S, heads * head_dim)"""
        if self._unordered is not None:
            rows = rows[:, self._unordered]
        return reference.attended(rows, self._angles, self._text)


def _columns(text: TextConfig, order: npt.NDArray[np.int64]) -> Tensor:
    """Where each output of qkv is found when the heads of queries and keys are put into another order."""
    columns = np.arange((text.n_heads + 2 * text.n_kv_heads) * text.head_dim).reshape(-1, text.head_dim)
    columns[: -text.n_kv_heads] = columns[: -text.n_kv_heads, order]
    return torch.from_numpy(columns.reshape(-1))
