"""Voices with the files and inputs of Piper and Kokoro, whose samples a test can compute: a tone for each symbol."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from onnx import TensorProto, checker, helper, save

from edge.arrays import F32
from edge.bundle.voice_spec import STYLE_ROWS, STYLE_WIDTH

RATE_HZ = 8000
SAMPLES = 400  # of a symbol at speed 1: a twentieth of a second
LETTERS = "abcdefghijklmnopqrstuvwxyz"
MARKS = " .,!?;:"
TABLE = {"_": [0], "^": [1], "$": [2], **{c: [3 + n] for n, c in enumerate(LETTERS + MARKS)}}


def tones(ids: list[int], length: float = 1.0, loudness: float = 1.0) -> F32:
    """Return what the graphs below make of ids: the oracle."""
    times = np.arange(int(np.float32(SAMPLES) * np.float32(length)), dtype=np.float32)
    phases = np.array(ids, np.float32)[:, None] * np.float32(0.02) * times[None]
    return np.clip(np.sin(phases).ravel() * np.float32(loudness), -1, 1).astype(np.float32)


def write_piper(
    folder: Path,
    name: str = "xx_XX-made-low",
    *,
    language: str = "en-us",
    alphabet: str = "text",
    speakers: tuple[str, ...] = (),
    card: str | None = "* License: CC0\n",
    loudness: float = 0.5,
    **changes: object,
) -> Path:
    """Write NAME.onnx, NAME.onnx.json and a model card; return the graph. changes: of the description's keys."""
    folder.mkdir(parents=True, exist_ok=True)
    graph = folder / f"{name}.onnx"
    _save_piper(graph, n_speakers=len(speakers), loudness=loudness)
    described: dict[str, object] = {
        "audio": {"sample_rate": RATE_HZ, "quality": "low"},
        "espeak": {"voice": language},
        "inference": {"noise_scale": 0.0, "length_scale": 1, "noise_w": 0.0},
        "phoneme_type": alphabet,
        "phoneme_map": {},
        "phoneme_id_map": TABLE,
        "num_symbols": 256,
        "num_speakers": max(1, len(speakers)),
        "speaker_id_map": {speaker: n for n, speaker in enumerate(speakers)},
    }
    (folder / f"{name}.onnx.json").write_text(json.dumps(described | changes), "utf-8")
    if card is not None:
        (folder / "MODEL_CARD").write_text(card, "utf-8")
    return graph


def write_kokoro(
    folder: Path,
    names: tuple[str, ...] = ("af_heart", "bm_george"),
    *,
    archive: bool = False,
    ids: str = "tokens",
    speed: int = TensorProto.FLOAT,
) -> Path:
    """Write a folder of Kokoro: a graph, and styles whose first number is how loud the speaker is.

    ids: the name of the graph's first input; speed: the type of its last.
    """
    (folder / "voices").mkdir(parents=True, exist_ok=True)
    _save_kokoro(folder / "kokoro-made.onnx", ids, speed)
    styles = {}
    for n, name in enumerate(names):
        styles[name] = np.full((STYLE_ROWS, 1, STYLE_WIDTH), (n + 1) / 10, np.float32)
        if not archive:
            styles[name].tofile(folder / "voices" / f"{name}.bin")
    if archive:
        with (folder / "voices-made.bin").open("wb") as file:
            np.savez(file, **styles)
    (folder / "LICENSE").write_text("                                 Apache License\n", "utf-8")
    return folder


def _save_piper(path: Path, *, n_speakers: int, loudness: float) -> None:
    inputs = [("input", TensorProto.INT64, [1, "n"]), ("input_lengths", TensorProto.INT64, [1])]
    inputs.append(("scales", TensorProto.FLOAT, [3]))
    nodes = [helper.make_node("Gather", ["scales", "one"], ["length"], axis=0)]
    scale = "loudness"
    if n_speakers:
        inputs.append(("sid", TensorProto.INT64, [1]))
        nodes += [
            helper.make_node("Cast", ["sid"], ["speaker"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["speaker", "unit"], ["nth"]),
            helper.make_node("Mul", ["nth", "tenth"], ["louder"]),
        ]
        scale = "louder"
    nodes += [*_tones("input", "length", scale), helper.make_node("Reshape", ["samples", "shape"], ["output"])]
    _save(path, nodes, inputs, "output", [1, 1, 1, "m"], loudness)


def _save_kokoro(path: Path, ids: str, speed: int) -> None:
    inputs = [(ids, TensorProto.INT64, [1, "n"]), ("style", TensorProto.FLOAT, [1, STYLE_WIDTH])]
    inputs.append(("speed", speed, [1]))
    nodes = [
        helper.make_node("Cast", ["speed"], ["factor"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["unit", "factor"], ["lengths"]),
        helper.make_node("Squeeze", ["lengths"], ["length"]),
        helper.make_node("Gather", ["style", "first"], ["loud"], axis=1),
        helper.make_node("Squeeze", ["loud"], ["louder"]),
        *_tones(ids, "length", "louder"),
        helper.make_node("Reshape", ["samples", "flat"], ["audio"]),
    ]
    _save(path, nodes, inputs, "audio", ["m"], 1.0)


def _tones(ids: str, length: str, loudness: str) -> list[object]:
    """Nodes from ids (1, n) and a length to samples (n, m)."""
    return [
        helper.make_node("Mul", [length, "per_symbol"], ["scaled"]),
        helper.make_node("Cast", ["scaled"], ["end"], to=TensorProto.INT64),
        helper.make_node("Range", ["zero", "end", "one"], ["counted"]),
        helper.make_node("Cast", ["counted"], ["times"], to=TensorProto.FLOAT),
        helper.make_node("Cast", [ids], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["numbers", "column"], ["rows"]),
        helper.make_node("Mul", ["rows", "step"], ["steps"]),
        helper.make_node("Mul", ["steps", "times"], ["phases"]),
        helper.make_node("Sin", ["phases"], ["waves"]),
        helper.make_node("Mul", ["waves", loudness], ["samples"]),
    ]


def _save(path: Path, nodes: list, inputs: list, output: str, shape: list, loudness: float) -> None:  # type: ignore[type-arg]
    floats = {"per_symbol": SAMPLES, "step": 0.02, "loudness": loudness, "unit": 1.0, "tenth": 0.1}
    integers = {"zero": 0, "one": 1}
    lists = {"column": [-1, 1], "shape": [1, 1, 1, -1], "flat": [-1], "first": [0]}
    tensors = [helper.make_tensor(name, TensorProto.FLOAT, [], [value]) for name, value in floats.items()]
    tensors += [helper.make_tensor(name, TensorProto.INT64, [], [value]) for name, value in integers.items()]
    tensors += [helper.make_tensor(name, TensorProto.INT64, [len(each)], each) for name, each in lists.items()]
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "voice",
        [helper.make_tensor_value_info(*each) for each in inputs],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)],
        [tensor for tensor in tensors if tensor.name in used],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(made)
    save(made, str(path))
