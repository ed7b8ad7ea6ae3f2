"""onnxruntime's execution providers: what they are called, which of them may compute a graph, and with what options.

All of it is decided from plain data: the names that were asked for, the names that this onnxruntime has, the manifest.
Nothing of it was run on a GPU: docs/jetson.md.
"""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

from edge.bundle.manifest import Manifest, SpeechManifest
from edge.engine.wheels import wheels
from edge.errors import ParameterError

Provider = Literal["cpu", "cuda", "tensorrt", "openvino"]
Options = dict[str, str]
Placed = Manifest | SpeechManifest  # whose graphs may be on a GPU

VARIABLE: Final = "EDGE_PROVIDERS"  # providers of engines that are asked for none, such as cuda,tensorrt,cpu
DEFAULT: Final[tuple[Provider, ...]] = ("cpu",)
PROVIDERS: Final[tuple[Provider, ...]] = get_args(Provider)
ORT_NAMES: Final[Mapping[Provider, str]] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}
# The distribution of onnxruntime that has a provider.
WHEELS: Final[Mapping[Provider, str]] = {
    "cpu": "onnxruntime",
    "cuda": "onnxruntime-gpu",
    "tensorrt": "onnxruntime-gpu",
    "openvino": "onnxruntime-openvino",
}
WORDS: Final[Mapping[Provider, str]] = {
    "cpu": "the CPU",
    "cuda": "CUDA",
    "tensorrt": "TensorRT",
    "openvino": "OpenVINO",
}

_WORKSPACE_BYTES: Final = 1 << 30  # that TensorRT may try algorithms in
_TOWERS: Final = {"vision.onnx": "vision", "audio.onnx": "audio", "encoder.onnx": "encoder"}
_RECIPES: Final = "export it with --recipe int4-fp16 or fp16"


@dataclass(frozen=True)
class Placement:
    """Where a graph may run: the providers to try, in order, and for each of the others why it is none of them.

    falls_back: whether the CPU computes it where none of them does.
    """

    providers: tuple[Provider, ...]
    refused: tuple[str, ...]
    falls_back: bool


def parse(asked: Sequence[object] | str, *, field: str = "providers") -> tuple[Provider, ...]:
    """Return providers by the names that users give them: cuda, CUDA, CUDAExecutionProvider; or a list with commas.

    Raises: ParameterError naming the field and what is known.
    """
    names = asked.split(",") if isinstance(asked, str) else list(asked)
    found = tuple(dict.fromkeys(_provider(name, field) for name in names))
    if not found:
        raise ParameterError(f"{field}: expected one or more of {', '.join(PROVIDERS)}, got none", field=field)
    return found


def chosen(asked: Sequence[object] | str | None) -> tuple[Provider, ...]:
    """Return the providers of an engine: as asked for, else as EDGE_PROVIDERS says, else the CPU.

    Raises: ParameterError for a name that is not known, and for a provider that this onnxruntime does not have.
    """
    field = "providers"
    if asked is None:
        asked, field = os.environ.get(VARIABLE, "").strip() or DEFAULT, VARIABLE
    found = parse(asked, field=field)
    if found != DEFAULT:
        check_available(found, available(), field=field)
    return found


def check_available(asked: Iterable[Provider], names: Collection[str], *, field: str) -> None:
    """Refuse a provider that onnxruntime was built without. names: onnxruntime's own. Raises: ParameterError."""
    for provider in asked:
        if ORT_NAMES[provider] not in names:
            has, wheel = ", ".join(short_names(names)), WHEELS[provider]
            installed = ", ".join(f"{name} {number}" for name, number in wheels().items()) or "of an unknown wheel"
            raise ParameterError(
                f"{field}: {provider} is not in this onnxruntime ({installed}),"
                f" which has {has}: it is in {wheel}, installed instead of the others (docs/jetson.md)",
                field=field,
            )


def available() -> list[str]:
    """Return the providers that this onnxruntime was built with, by its own names."""
    from edge.engine.session import available_providers

    return available_providers()


def short_names(names: Collection[str]) -> list[str]:
    """Return onnxruntime's names as users give them, those that are supported here."""
    return [provider for provider in PROVIDERS if ORT_NAMES[provider] in names]


def placement(graph: str, manifest: Placed, providers: Sequence[Provider]) -> Placement:
    """Decide where a graph of a bundle may run.

    The order of the providers is the order in which they are tried, but for TensorRT, which comes first for towers.
    """
    tried: list[Provider] = []
    refused = []
    for provider in sorted(providers, key=lambda each: each != "tensorrt"):
        if provider == "cpu":
            continue
        reason = _refusal(graph, manifest, provider)
        if reason is None:
            tried.append(provider)
        else:
            refused.append(f"{WORDS[provider]}: {reason}")
    return Placement(tuple(tried), tuple(refused), falls_back="cpu" in providers)


def chain(
    provider: Provider, providers: Sequence[Provider], options: Mapping[Provider, Options]
) -> list[tuple[str, Options]]:
    """Return what a session is given: the provider, CUDA behind TensorRT for what that leaves, and the CPU.

    onnxruntime puts what determines shapes on the CPU, whatever it is given.
    """
    behind: tuple[Provider, ...] = ("cuda",) if provider == "tensorrt" and "cuda" in providers else ()
    return [(ORT_NAMES[each], dict(options.get(each, {}))) for each in (provider, *behind, "cpu")]


def options_of(graph: str, manifest: Placed, *, engines: str | None) -> dict[Provider, Options]:
    """Return each provider's options for a graph.

    engines: the folder where TensorRT keeps what it built, None for nowhere. Source: onnxruntime's own pages of the
    providers.
    """
    cuda = {"arena_extend_strategy": "kSameAsRequested", "cudnn_conv_algo_search": "HEURISTIC"}
    tensorrt = {
        "trt_fp16_enable": "1",
        "trt_layer_norm_fp32_fallback": "1",
        "trt_max_workspace_size": str(_WORKSPACE_BYTES),
    }
    shape = input_shape(graph, manifest)
    if shape is not None:  # one engine, of the only shape that is ever fed
        name, sizes = shape
        text = f"{name}:{'x'.join(map(str, sizes))}"
        tensorrt |= {f"trt_profile_{kind}_shapes": text for kind in ("min", "opt", "max")}
    if engines is not None:
        tensorrt |= {"trt_engine_cache_enable": "1", "trt_engine_cache_path": engines}
        tensorrt |= {"trt_engine_cache_prefix": graph.removesuffix(".onnx")}
        tensorrt |= {"trt_timing_cache_enable": "1", "trt_timing_cache_path": engines}
    return {"cuda": cuda, "tensorrt": tensorrt}


def input_shape(graph: str, manifest: Placed) -> tuple[str, tuple[int, ...]] | None:
    """Return the name and the shape of a tower's input, one tile or window; None for decoders."""
    if isinstance(manifest, Manifest):
        if graph == "vision.onnx" and manifest.vision is not None:
            return "tiles", (1, 3, manifest.vision.tile_px, manifest.vision.tile_px)
        if graph == "audio.onnx" and manifest.audio is not None:
            return "mel", (1, manifest.audio.n_mels, manifest.audio.window_frames)
        return None
    return ("mel", (1, manifest.speech.n_mels, manifest.speech.n_frames)) if graph == "encoder.onnx" else None


def _provider(name: object, field: str) -> Provider:
    given = name.strip().lower() if isinstance(name, str) else None
    for provider in PROVIDERS:
        if given in (provider, ORT_NAMES[provider].lower()):
            return provider
    known = f"expected {', '.join(PROVIDERS)}, or onnxruntime's own names of them"
    if isinstance(name, tuple):
        known += "; options of a provider are not supported"
    raise ParameterError(f"{field}: {known}; got {name!r:.60}", field=field)


def _refusal(graph: str, manifest: Placed, provider: Provider) -> str | None:
    """Return why a provider does not compute a graph, None where it may."""
    tower = _TOWERS.get(graph)
    if tower is None:
        return _decoder_refusal(manifest, provider)
    if provider == "openvino":
        return None
    prefixes = ("projection.", f"{tower}.") if tower == "vision" else (f"{tower}.",)
    schemes = {record.scheme for path, record in manifest.recipe.tensors.items() if path.startswith(prefixes)}
    if "int8" in schemes:
        return f"the weights of {graph} are int8, which only the CPU multiplies: {_RECIPES}"
    if provider == "tensorrt" and isinstance(manifest, Manifest) and manifest.recipe.activations != "fp16":
        return f"{graph} has operators that are not ONNX's own: {_RECIPES}"
    return None


def _decoder_refusal(manifest: Placed, provider: Provider) -> str | None:
    if not isinstance(manifest, Manifest):
        return "the decoder of a speech-to-text model runs on the CPU"
    if provider != "cuda":
        return "it computes towers, and the decoder runs on CUDA or the CPU"
    if manifest.recipe.activations != "fp16":
        return f"attention in float32 has no CUDA kernel: {_RECIPES}"
    return None
