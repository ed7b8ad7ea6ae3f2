"""Roles of the towers that are stacks of transformer layers: SigLIP's under `vision`, Whisper's under `audio`.

Legend: C width, F width of an MLP's middle, g cells a side of a tile, P positions of a window of audio.
"""

import re
from collections.abc import Iterator, Mapping

from export.checkpoint.towers import AudioConfig, EncoderConfig, SiglipConfig

Roles = Iterator[tuple[str, tuple[int, ...]]]

_SIGLIP_TOP = {
    "embeddings.patch_embedding": "patch",
    "embeddings.position_embedding": "positions",
    "post_layernorm": "norm",
}
_WHISPER_TOP = {"conv1": "conv1", "conv2": "conv2", "embed_positions": "positions", "layer_norm": "norm"}
_ATTENTION = {
    "self_attn.q_proj": "q", "self_attn.k_proj": "k", "self_attn.v_proj": "v", "self_attn.out_proj": "o",
}  # fmt: skip
_SIGLIP_LAYER = {
    **_ATTENTION, "layer_norm1": "norm1", "layer_norm2": "norm2", "mlp.fc1": "fc1", "mlp.fc2": "fc2",
}  # fmt: skip
_WHISPER_LAYER = {
    **_ATTENTION, "self_attn_layer_norm": "norm1", "final_layer_norm": "norm2", "fc1": "fc1", "fc2": "fc2",
}  # fmt: skip
_NAME = re.compile(r"(?:layers\.(0|[1-9]\d*)\.)?(.+)\.(weight|bias)")


def siglip_role(bare: str) -> str | None:
    """The role of a stored SigLIP tensor, None for any other. bare: the name without `model.`."""
    prefix = "vision_model.vision_model."
    if not bare.startswith(prefix):
        return None
    return _role(bare.removeprefix(prefix).removeprefix("encoder."), "vision", _SIGLIP_TOP, _SIGLIP_LAYER)


def audio_role(bare: str) -> str | None:
    """The role of a stored tensor of the audio tower or its projection, None for any other."""
    match = re.fullmatch(r"audio_language_projection\.([02])\.(weight|bias)", bare)
    if match is not None:
        return f"audio.projection.{match[1]}.{match[2]}"
    if not bare.startswith("audio_model."):
        return None
    return _role(bare.removeprefix("audio_model."), "audio", _WHISPER_TOP, _WHISPER_LAYER)


def stored_siglip(role: str) -> str:
    """The stored name, without `model.`, of a role of SigLIP's tower: the inverse of `siglip_role`."""
    inner = "encoder." if role.startswith("vision.layers.") else ""
    return f"vision_model.vision_model.{inner}{_stored(role, _SIGLIP_TOP, _SIGLIP_LAYER)}"


def stored_audio(role: str) -> str:
    """The stored name, without `model.`, of a role of the audio tower: the inverse of `audio_role`."""
    if role.startswith("audio.projection."):
        return role.replace("audio.projection.", "audio_language_projection.")
    return f"audio_model.{_stored(role, _WHISPER_TOP, _WHISPER_LAYER)}"


def siglip_roles(config: SiglipConfig) -> Roles:
    """Every role of the tower with its shape."""
    width = config.encoder.width
    yield "vision.patch.weight", (width, 3, config.patch_px, config.patch_px)
    yield "vision.patch.bias", (width,)
    yield "vision.positions.weight", (config.grid**2, width)
    yield from _layers("vision", config.encoder)


def audio_roles(config: AudioConfig, hidden_size: int) -> Roles:
    """Every role of the tower and its projection, with its shape. hidden_size: the decoder's."""
    width = config.encoder.width
    for name, n_in in (("conv1", config.n_mels), ("conv2", width)):
        yield f"audio.{name}.weight", (width, n_in, 3)
        yield f"audio.{name}.bias", (width,)
    yield "audio.positions.weight", (config.n_positions, width)
    yield from _layers("audio", config.encoder)
    for part, n_in in (("0", width), ("2", hidden_size)):
        yield f"audio.projection.{part}.weight", (hidden_size, n_in)
        yield f"audio.projection.{part}.bias", (hidden_size,)


def _layers(at: str, encoder: EncoderConfig) -> Roles:
    width, inner = encoder.width, encoder.intermediate_size
    shapes = dict.fromkeys(("q", "k", "v", "o"), (width, width)) | {"fc1": (inner, width), "fc2": (width, inner)}
    for layer in range(encoder.n_layers):
        here = f"{at}.layers.{layer}"
        for norm in ("norm1", "norm2"):
            yield f"{here}.{norm}.weight", (width,)
            yield f"{here}.{norm}.bias", (width,)
        for part, shape in shapes.items():
            yield f"{here}.{part}.weight", shape
            if part != "k" or encoder.key_bias:
                yield f"{here}.{part}.bias", (shape[0],)
    yield f"{at}.norm.weight", (width,)
    yield f"{at}.norm.bias", (width,)


def _role(rest: str, at: str, top: Mapping[str, str], layer: Mapping[str, str]) -> str | None:
    match = _NAME.fullmatch(rest)
    if match is None:
        return None
    number, name, kind = match.groups()
    if number is None:
        return f"{at}.{top[name]}.{kind}" if name in top else None
    return f"{at}.layers.{number}.{layer[name]}.{kind}" if name in layer else None


def _stored(role: str, top: Mapping[str, str], layer: Mapping[str, str]) -> str:
    _, *place, part, kind = role.split(".")
    forms = {ours: theirs for theirs, ours in (layer if place else top).items()}
    return ".".join([*place, forms[part], kind])
