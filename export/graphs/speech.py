"""The graphs of a speech bundle: optimum's export of a Whisper model, brought into two files and quantized.

optimum writes an encoder, a decoder that starts a text and one that continues it. The first decoder differs only in
that it makes the keys and values of the audio: that part is cut out of it and joined to the encoder, so that one
decoder is left, which starts from an empty past.
"""

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import onnx
from onnx import compose, numpy_helper

from edge.bundle.manifest import SpeechSpec, TensorRecord
from export.arrays import F32
from export.errors import GraphError
from export.graph import Array, DataFile, Graph, Progress
from export.quantize import Linears, int8
from export.recipe import Recipe

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration

# Shapes: M mels, F frames and T = F / 2 positions of a window, S new and P past tokens, H hidden size, A heads of d.

OPSET: Final = 18
EMBED: Final = "decoder.embed"
HEAD: Final = "decoder.head"

_TASK = "automatic-speech-recognition-with-past"
_EMBED_WEIGHT = "model.decoder.embed_tokens.weight"
_CROSS_SHAPE = "cross_shape"


def write_speech(
    model: "WhisperForConditionalGeneration",
    spec: SpeechSpec,
    recipe: Recipe,
    folder: Path,
    *,
    scratch: Path,
    traced: Callable[[], None],
    progress: Progress | None,
) -> dict[str, TensorRecord]:
    """Write encoder and decoder, each .onnx and .bin, into `folder`; returns what was done to each tensor.

    scratch: an empty folder for optimum's own files; traced: called when they are there.
    Raises: GraphError when they are not as expected.
    """
    _export(model, scratch)
    traced()
    starting = onnx.load(scratch / "decoder_model.onnx")
    encoder = _with_cross(onnx.load(scratch / "encoder_model.onnx"), starting, spec)
    records = _write(encoder, "encoder", spec, recipe, folder, progress)
    return records | _write(_decoder(scratch, spec), "decoder", spec, recipe, folder, progress)


def _export(model: "WhisperForConditionalGeneration", scratch: Path) -> None:
    from optimum.exporters.onnx import onnx_export_from_model

    try:
        with _quiet():
            onnx_export_from_model(
                model, scratch, opset=OPSET, task=_TASK, do_validation=False, no_post_process=True, device="cpu"
            )
    except Exception as error:
        raise GraphError(f"optimum cannot export this model: {' '.join(str(error).split())[:300]}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep to itself what tracing says of every branch it does not follow."""
    loggers = [logging.getLogger(name) for name in ("optimum", "transformers", "torch.onnx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _with_cross(encoder: onnx.ModelProto, starting: onnx.ModelProto, spec: SpeechSpec) -> "_Traced":
    """The encoder, and behind it what makes the keys and values that the decoder looks the audio up in."""
    made = [f"present.{layer}.encoder.{part}" for layer in range(spec.n_layers) for part in ("key", "value")]
    _fix_shapes(starting.graph, made, spec)
    cross = onnx.utils.Extractor(starting).extract_model(["encoder_hidden_states"], made)
    joined = compose.merge_models(
        encoder, cross, io_map=[("last_hidden_state", "encoder_hidden_states")], prefix2="cross/",
        outputs=["last_hidden_state", *(f"cross/{name}" for name in made)],
    )  # fmt: skip
    names = {"input_features": "mel", "last_hidden_state": "hidden"}
    names |= {f"cross/{name}": _ours(name) for name in made}
    return _Traced(joined.graph, names)


def _fix_shapes(graph: onnx.GraphProto, made: Sequence[str], spec: SpeechSpec) -> None:
    """Give the audio's keys and values their shape as a constant.

    Traced, it is read from the layer before, and so would keep the text's layers and embeddings in the encoder's file.
    Raises: GraphError.
    """
    makers = {name: node for node in graph.node for name in node.output}
    shape = np.array([1, spec.n_positions, spec.n_heads, spec.head_dim], np.int64)
    graph.initializer.append(numpy_helper.from_array(shape, _CROSS_SHAPE))
    for name in made:
        transpose = makers.get(name)
        reshape = makers.get(transpose.input[0]) if transpose is not None and transpose.input else None
        if transpose is None or reshape is None or (transpose.op_type, reshape.op_type) != ("Transpose", "Reshape"):
            raise GraphError(f"decoder: expected a Reshape and a Transpose before {name}")
        reshape.input[1] = _CROSS_SHAPE


def _decoder(scratch: Path, spec: SpeechSpec) -> "_Traced":
    model = onnx.load(scratch / "decoder_with_past_model.onnx")
    given = [value.name for value in (*model.graph.input, *model.graph.output)]
    names = {name: _ours(name) for name in given if name.count(".") == 3} | {"input_ids": "tokens"}
    if len(names) != 6 * spec.n_layers + 1:
        raise GraphError(f"decoder: expected {6 * spec.n_layers + 1} inputs and outputs, got {sorted(given)}")
    return _Traced(model.graph, names)


def _ours(name: str) -> str:
    """past_key_values.0.decoder.key -> past.0.key, present.... -> present.0.key, either with encoder -> cross.0.key."""
    when, layer, whose, part = name.split(".")
    return f"{'cross' if whose == 'encoder' else when.removesuffix('_key_values')}.{layer}.{part}"


class _Traced:
    """A graph as optimum left it. names: what its inputs and outputs are called here."""

    def __init__(self, graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
        self.inputs = [names.get(value.name, value.name) for value in graph.input]
        self.outputs = [names.get(value.name, value.name) for value in graph.output]
        self.nodes = list(graph.node)
        self.names = dict(names)
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}

    def is_tensor(self, name: str) -> bool:
        return name in self._tensors

    def tensor(self, name: str) -> Array:
        array: Array = numpy_helper.to_array(self._tensors[name])
        return array

    def rank(self, name: str) -> int:
        return len(self._tensors[name].dims)


def _write(
    traced: _Traced, name: str, spec: SpeechSpec, recipe: Recipe, folder: Path, progress: Progress | None
) -> dict[str, TensorRecord]:
    with DataFile(folder / f"{name}.bin") as data:
        graph = Graph(name, data)
        linears = Linears(graph, lambda path: recipe.scheme(path, n_layers=spec.n_layers), progress)
        rewriting = _Rewriting(traced, graph, linears, recipe, spec)
        for value in traced.inputs:
            graph.input(value, "int64" if value == "tokens" else "float32", _shape(value, spec))
        for node in traced.nodes:
            rewriting.add(node)
        for value in traced.outputs:
            graph.output(value, "float32", _shape(value, spec))
        graph.save(folder / f"{name}.onnx", opset=OPSET)
    return linears.records | rewriting.records


def _shape(value: str, spec: SpeechSpec) -> list[int | str]:
    fixed: dict[str, list[int | str]] = {
        "mel": [1, spec.n_mels, spec.n_frames],
        "hidden": [1, spec.n_positions, spec.hidden_size],
        "tokens": [1, "new"],
        "logits": [1, "new", spec.vocab_size],
    }
    length: dict[str, int | str] = {"cross": spec.n_positions, "past": "past", "present": "past and new"}
    return fixed.get(value) or [1, spec.n_heads, length[value.partition(".")[0]], spec.head_dim]


class _Rewriting:
    """Copies a traced graph node by node; linear layers and the embedding table go through the recipe."""

    def __init__(self, traced: _Traced, graph: Graph, linears: Linears, recipe: Recipe, spec: SpeechSpec) -> None:
        self.records: dict[str, TensorRecord] = {}
        self._traced = traced
        self._graph = graph
        self._linears = linears
        self._recipe = recipe
        self._spec = spec
        self._names = dict(traced.names)
        self._stored: set[str] = set()

    def add(self, node: onnx.NodeProto) -> None:
        """Add one node, and the tensors it is the first to use."""
        traced = self._traced
        source = self._names.get(node.input[0], node.input[0]) if node.input else ""
        if node.op_type == "Identity" and traced.is_tensor(source):
            self._names[node.output[0]] = source  # tensors that are equal are stored once
        elif node.op_type == "MatMul" and traced.is_tensor(node.input[1]) and traced.rank(node.input[1]) == 2:
            self._linear(node)
        elif node.op_type == "Gather" and node.input[0] == _EMBED_WEIGHT:
            self._embed(node)
        else:
            self._graph.copy(
                node,
                inputs=[self._value(name) for name in node.input],
                outputs=[self._names.get(name, name) for name in node.output],
            )

    def _linear(self, node: onnx.NodeProto) -> None:
        weight = self._traced.tensor(node.input[1]).astype(np.float32)  # (in, out)
        parts = [np.ascontiguousarray(weight.T)]
        path = _path(node.output[0])
        n_in, n_out = weight.shape
        out = self._linears.add(self._value(node.input[0]), path, parts, shape=(n_out, n_in), bias=None)
        called = self._names.get(node.output[0], node.output[0])
        if called in self._traced.outputs:
            self._graph.node("Identity", [out], called)
        else:
            self._names[node.output[0]] = out

    def _embed(self, node: onnx.NodeProto) -> None:
        """Look tokens up: rows of float32, or of int8 with a scale each."""
        table: F32 = self._traced.tensor(_EMBED_WEIGHT).astype(np.float32)  # (V, H)
        tokens = self._value(node.input[1])
        if self._recipe.scheme(EMBED, n_layers=self._spec.n_layers) == "fp32":
            self.records[EMBED] = TensorRecord("fp32", 0.0)
            stored = self._graph.weight(EMBED, table)
            self._names[node.output[0]] = self._graph.node("Gather", [stored, tokens], f"{EMBED}.rows", axis=0)
            return
        rows, error = int8.quantize_parts([table], shape=(table.shape[0], table.shape[1]))
        self.records[EMBED] = TensorRecord("int8", error)
        values = self._graph.tensor(f"{EMBED}.values", "int8", table.shape, [rows.values])
        scales = self._graph.weight(f"{EMBED}.scales", np.ascontiguousarray(rows.scales[:, None]))
        found = self._graph.node("Gather", [values, tokens], f"{EMBED}.found", axis=0)
        found = self._graph.node("Cast", [found], f"{EMBED}.wide", to=onnx.TensorProto.FLOAT)
        scale = self._graph.node("Gather", [scales, tokens], f"{EMBED}.scale", axis=0)
        self._names[node.output[0]] = self._graph.node("Mul", [found, scale], f"{EMBED}.rows")

    def _value(self, name: str) -> str:
        """The name of a value here; a tensor is stored when it is first used."""
        name = self._names.get(name, name)
        if self._traced.is_tensor(name) and name not in self._stored:
            self._stored.add(name)
            array = self._traced.tensor(name)
            if array.dtype == np.float32:
                self._graph.weight(name, array.astype(np.float32, copy=False))
            else:
                self._graph.constant(name, array)
        return name


def _path(output: str) -> str:
    """The path under which recipes speak of a linear layer, from the name of its result in the traced graph.

    /layers.0/fc1/MatMul_output_0 -> encoder.layers.0.fc1; cross//model/decoder/layers.0/encoder_attn/k_proj/... and
    /model/decoder/layers.0/... -> decoder.layers.0....; logits -> decoder.head.
    """
    if output == "logits":
        return HEAD
    words = output.removeprefix("cross/").strip("/").split("/")[:-1]
    if words[:2] == ["model", "decoder"]:
        return ".".join(["decoder", *words[2:]])
    if words and words[0].startswith("layers."):
        return ".".join(["encoder", *words])
    raise GraphError(f"encoder or decoder: an unexpected linear layer: {output[:100]}")
