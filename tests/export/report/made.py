"""Bundles for reports: a manifest and a certificate, as small files without any weights."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Document = dict[str, Any]
Scheme = Callable[[int, str], str]
KINDS = ("qkv", "o", "gate_up", "down")
ERRORS = {"fp32": 0.0, "int8": 0.006, "int4": 0.1}
N_LAYERS, HIDDEN, INTERMEDIATE, VOCAB = 32, 64, 160, 512


def bundle(
    folder: Path, name: str, *, scheme: str | Scheme = "int8", n_bytes: int = 1_000_000, kl: float | None = 0.01,
    tensors: Mapping[str, Document] | None = None, recipe: str = "mine", **changed: object,
) -> Path:  # fmt: skip
    """Write a text-only bundle's manifest, and its certificate unless kl is None. Returns its folder.

    scheme: of every decoder tensor, or by layer and kind; changed: keys of the certificate, None to leave one out.
    """
    out = folder / name
    out.mkdir(parents=True)
    (out / "manifest.json").write_text(json.dumps(manifest(name, scheme, n_bytes, tensors, recipe)))
    if kl is not None:
        made = {**certificate(name, kl), **changed}
        (out / "certificate.json").write_text(json.dumps({key: value for key, value in made.items() if value != ...}))
    return out


def manifest(
    name: str, scheme: str | Scheme, n_bytes: int, tensors: Mapping[str, Document] | None, recipe: str
) -> Document:
    entry = {"bytes": 0, "sha256": "0" * 64}
    return {
        "format": 1, "id": name, "aliases": [], "family": "llama", "min_runtime": "0.1.0",
        "source": {"architecture": "LlamaForCausalLM", "files": {"model.safetensors": "1" * 64}, "ignored": [],
                   "notes": []},
        "recipe": {"name": recipe, "tensors": {**records(scheme), **(tensors or {})}},
        "text": {"hidden_size": HIDDEN, "n_layers": N_LAYERS, "n_heads": 4, "n_kv_heads": 2, "head_dim": 16,
                 "intermediate_size": INTERMEDIATE, "vocab_size": VOCAB, "context": 256, "rotary_share": 1.0,
                 "rope_base": 10000.0, "norm_eps": 1e-6, "logit_scale": 1.0, "embedding": "int8"},
        "vision": None, "audio": None,
        "prompt": {"format": "flash", "tools": None, "control": {}, "stop_ids": [0], "stop_strings": ["<sep>"]},
        "memory": {"weights_bytes": n_bytes, "cache_bytes_per_token": 1},
        "files": {"decoder.onnx": entry, "tokenizer.json": entry, "decoder.bin": {**entry, "bytes": n_bytes},
                  "embedding.bin": {**entry, "bytes": VOCAB * (HIDDEN + 4)}},
    }  # fmt: skip


def records(scheme: str | Scheme) -> dict[str, Document]:
    """The record of every decoder tensor; `down` is a little worse than the others, and so is the first layer."""
    found = {}
    for layer in range(N_LAYERS):
        for kind in KINDS:
            its = scheme if isinstance(scheme, str) else scheme(layer, kind)
            worse = (1.3 if kind == "down" else 1.0) * (1.5 if layer == 0 else 1.0)
            found[f"decoder.layers.{layer}.{kind}"] = {"scheme": its, "error": ERRORS[its] * worse}
    table = "fp32" if scheme == "fp32" else "int8"
    return {**found, **{f"decoder.{name}": {"scheme": table, "error": ERRORS[table]} for name in ("embed", "head")}}


def certificate(name: str, kl: float) -> Document:
    """A certificate with every key that a report shows."""
    spread = [kl * math.exp(-3 + 6 * (index * 37 % 400) / 400) for index in range(400)]
    figures = {"kl": {"mean": kl, "p99": kl * 8, "max": kl * 20}, "top1_agreement": 0.9}
    perplexity = {"bundle": 14.25, "reference": 13.5, "positions": 300}
    return {
        "format": 1, "bundle": name, "level": "quick", "positions": 800, **figures,
        "largest_logit_difference": 1.5, "perplexity": perplexity,
        "prefill_decode": {"kl": {"mean": kl / 12, "p99": kl, "max": kl}, "share_of_kl": 1 / 12},
        "int8_cache": {"to_float32": {"kl": {"mean": kl / 5, "p99": kl, "max": kl}}},
        "sets": {kind: {"positions": 400, **figures, "perplexity": perplexity} for kind in ("text", "chat")},
        "kl_positions": [{"set": kind, "kl": spread} for kind in ("text", "chat")],
        "evaluation": {"file": "evaluation.jsonl", "sha256": "ab" * 32},
        "thresholds": {"max_mean_kl": 0.5}, "missed": [], "wall_s": 3.5,
        "machine": {"processor": "Some CPU", "architecture": "x86_64", "system": "Linux", "cores": 2},
        "versions": {"onnxruntime": "1.32.0", "edge": "0.1.0"},
    }  # fmt: skip


def bench(folder: Path, name: str, **changed: object) -> Path:
    """Write what `edge bench --json` prints of a bundle; returns the file."""
    figures = {
        "model": name, "cpu": "Some CPU", "onnxruntime": "1.32.0", "threads": 2, "prompt_tokens": 256,
        "answer_tokens": 64, "load_s": 0.5, "prefill_tokens_per_s": 1234.0, "decode_tokens_per_s": 56.5,
        "decode_GB_per_s": 3.0, "seconds_per_tile": None, "anonymous_bytes": 50_000_000, "mapped_bytes": 1, **changed,
    }  # fmt: skip
    path = folder / f"{name}-{len(list(folder.glob('*.json')))}.json"
    path.write_text(json.dumps(figures, indent=1))
    return path
