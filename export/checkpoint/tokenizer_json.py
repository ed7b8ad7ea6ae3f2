"""Ways of writing a tokenizer.json that change nothing, brought into the one that the runtime reads.

transformers and its converters write empty normalizers, decoders for alphabets that are not there, and a fallback to
bytes without tokens for it. A step that does change text stays, and is refused where the tokenizer is checked.
"""

import re
from collections.abc import Mapping

from edge.bundle.byte_level import BYTE_OF
from export.errors import UnsupportedError

_FALLBACK = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_TURNS = ("<|im_start|>", "<|im_end|>")
_IDLE_DECODERS = ("ByteFallback", "Fuse")


def plainly_written(source: Mapping[str, object]) -> Mapping[str, object]:
    """The same tokenizer.json without steps that do nothing; the very same object where there are none."""
    changed: dict[str, object] = {}
    if source.get("normalizer") is not None and _is_empty(source["normalizer"]):
        changed["normalizer"] = None
    decoder = _decoder(source.get("decoder"))
    if decoder is not source.get("decoder"):
        changed["decoder"] = decoder
    model = source.get("model")
    if isinstance(model, dict) and model.get("byte_fallback") is True and not _falls_back(model):
        changed["model"] = {**model, "byte_fallback": False}
    return {**source, **changed} if changed else source


def check_kind(source: Mapping[str, object]) -> None:
    """Refuse by name what is no byte-level BPE at all, and tokens of turns that swallow white space.

    Raises: UnsupportedError.
    """
    added = source.get("added_tokens")
    for token in added if isinstance(added, list) else ():
        if isinstance(token, dict) and token.get("content") in _TURNS:
            for flag in ("lstrip", "rstrip"):
                if token.get(flag):
                    what = f"{token['content']} has {flag}, which takes white space out of prompts"
                    raise UnsupportedError(f"tokenizer.json: added_tokens: {what} and is not supported")
    model = source.get("model")
    kind = model.get("type") if isinstance(model, dict) else None
    if not isinstance(model, dict) or (kind in (None, "BPE") and not _falls_back(model)):
        return  # what is no model at all is named where the structure is checked
    found = "SentencePiece's (it has tokens such as <0x0A>)" if kind in (None, "BPE") else f"of type {str(kind)[:40]}"
    raise UnsupportedError(f"tokenizer.json: the tokenizer is {found}, which is not supported; expected byte-level BPE")


def _is_empty(step: object) -> bool:
    """Whether a normalizer is a sequence of none."""
    inner = step.get("normalizers") if isinstance(step, dict) and step.get("type") == "Sequence" else None
    return isinstance(inner, list) and all(map(_is_empty, inner))


def _decoder(decoder: object) -> object:
    """The one decoder of a sequence that does something, if it is ByteLevel; else the sequence."""
    inner = decoder.get("decoders") if isinstance(decoder, dict) and decoder.get("type") == "Sequence" else None
    if not isinstance(inner, list):
        return decoder
    busy = [step for step in inner if not _is_idle(step)]
    is_byte_level = len(busy) == 1 and isinstance(busy[0], dict) and busy[0].get("type") == "ByteLevel"
    return busy[0] if is_byte_level else decoder


def _is_idle(step: object) -> bool:
    """Whether a decoder finds nothing to do in tokens of the byte-level alphabet."""
    if not isinstance(step, dict):
        return False
    if step.get("type") in _IDLE_DECODERS:
        return True
    pattern = step.get("pattern") if step.get("type") == "Replace" else None
    text = pattern.get("String") if isinstance(pattern, dict) else None
    return isinstance(text, str) and bool(text) and any(char not in BYTE_OF for char in text)


def _falls_back(model: Mapping[str, object]) -> bool:
    """Whether the vocabulary has tokens such as <0x0A>, which a fallback to bytes would make."""
    vocab = model.get("vocab")
    return isinstance(vocab, dict) and any(map(_FALLBACK.fullmatch, vocab))
