"""The tokenizer of a GGUF file as the tokenizer.json it came from.

Byte-level BPE (`tokenizer.ggml.model` is `gpt2`): tokens, merges, token types and the name of the pre-tokenizer.
Source: llama.cpp, conversion/base.py (what is written) and src/llama-vocab.cpp (what it means).
"""

import json
from collections.abc import Mapping, Sequence
from typing import Final

from export.checkpoint.gguf.metadata import Metadata
from export.checkpoint.gguf.pretokenizers import PreTokenizer, pre_tokenizer
from export.errors import TokenizerError, UnsupportedError

MODEL: Final = "gpt2"
NORMAL: Final = 1
UNKNOWN: Final = 2
CONTROL: Final = 3
USER_DEFINED: Final = 4
UNUSED: Final = 5
_TEXT_TYPES: Final = (NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED)


def control_tokens(metadata: Metadata) -> frozenset[str]:
    """The tokens that are no text. Raises: CheckpointError."""
    if metadata.get("tokenizer.ggml.tokens") is None or metadata.get("tokenizer.ggml.token_type") is None:
        return frozenset()
    tokens, types = metadata.strings("tokenizer.ggml.tokens"), metadata.integers("tokenizer.ggml.token_type")
    return frozenset(token for token, kind in zip(tokens, types, strict=False) if kind == CONTROL)


def tokenizer_json(metadata: Metadata) -> bytes:
    """The file, one line of JSON. Raises: CheckpointError, TokenizerError, UnsupportedError, naming the key."""
    model = metadata.text("tokenizer.ggml.model")
    if model != MODEL:
        kind = "SentencePiece" if model == "llama" else "foreign"
        raise UnsupportedError(
            f"{metadata.file}: tokenizer.ggml.model is {model!r}: a {kind} tokenizer is not supported,"
            f" expected {MODEL!r} (byte-level BPE)"
        )
    pre = _pre(metadata)
    tokens = metadata.strings("tokenizer.ggml.tokens")
    types = metadata.integers("tokenizer.ggml.token_type")
    _check(tokens, types, metadata)
    added = [at for at, kind in enumerate(types) if kind in (CONTROL, USER_DEFINED)]
    # Added tokens are in the vocabulary too: only so does every library give them their ids, wherever those are.
    vocab = {token: at for at, token in enumerate(tokens) if not _is_filler(token, at, types[at])}
    merges = [_merge(merge, vocab, metadata) for merge in metadata.strings("tokenizer.ggml.merges")]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return _dump(
        {
            "version": "1.0", "truncation": None, "padding": None,
            "added_tokens": [_added(tokens[at], at, special=types[at] == CONTROL) for at in added],
            "normalizer": None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*_splits(pre), byte_level]},
            "post_processor": None,
            "decoder": byte_level,
            "model": {
                "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                "ignore_merges": pre.whole_words, "vocab": vocab, "merges": merges,
            },
        }
    )  # fmt: skip


def tokenizer_config(metadata: Metadata) -> bytes:
    """tokenizer_config.json: the tokens around a text and the chat template, which is read and never executed."""
    tokens = metadata.strings("tokenizer.ggml.tokens")
    pre = _pre(metadata)
    config: dict[str, object] = {
        "add_bos_token": metadata.flag("tokenizer.ggml.add_bos_token", default=pre.add_bos),
        "add_eos_token": metadata.flag("tokenizer.ggml.add_eos_token", default=False),
    }
    for name, spelled in (("bos", "bos"), ("eos", "eos"), ("padding", "pad"), ("unknown", "unk")):
        key = f"tokenizer.ggml.{name}_token_id"
        if metadata.get(key) is not None:
            at = metadata.integer(key, least=0)
            if at >= len(tokens):
                raise metadata.wrong(key, f"an id below {len(tokens)}")
            config[f"{spelled}_token"] = tokens[at]
    template = chat_template(metadata)
    return _dump(config | ({} if template is None else {"chat_template": template}))


def chat_template(metadata: Metadata) -> str | None:
    """The text of the chat template, None if there is none. Raises: CheckpointError."""
    if metadata.get("tokenizer.chat_template") is None:
        return None
    return metadata.text("tokenizer.chat_template")


def _check(tokens: Sequence[str], types: Sequence[int], metadata: Metadata) -> None:
    if len(types) != len(tokens):
        raise _wrong(metadata, f"{len(types)} token types for {len(tokens)} tokens")
    strange = sorted(set(types) - set(_TEXT_TYPES))
    if strange:
        raise _wrong(metadata, f"a token of type {strange[0]}, expected types 1 to 5")
    seen: dict[str, int] = {}
    for at, (token, kind) in enumerate(zip(tokens, types, strict=True)):
        if not _is_filler(token, at, kind) and seen.setdefault(token, at) != at:
            raise _wrong(metadata, f"{token[:40]!r} is the token of {seen[token]} and of {at}")


def _is_filler(token: str, at: int, kind: int) -> bool:
    """Whether the converter wrote a token only because the tokenizer has none for the id."""
    return kind == UNUSED and token == f"[PAD{at}]"


def _pre(metadata: Metadata) -> PreTokenizer:
    if metadata.get("tokenizer.ggml.pre") is None:
        raise UnsupportedError(
            f"{metadata.file}: tokenizer.ggml.pre is missing: how text is cut into words is not known;"
            " convert the model again with a recent llama.cpp"
        )
    return pre_tokenizer(metadata.text("tokenizer.ggml.pre"), file=metadata.file)


def _wrong(metadata: Metadata, problem: str) -> TokenizerError:
    return TokenizerError(f"{metadata.file}: tokenizer.ggml.tokens: {problem}")


def _merge(merge: str, vocab: Mapping[str, int], metadata: Metadata) -> list[str]:
    """The two sides of a merge, which the file joins by a space (a side has none: it is in the byte-level alphabet)."""
    left, space, right = merge.partition(" ")
    if not space or left not in vocab or right not in vocab or left + right not in vocab:
        raise TokenizerError(
            f"{metadata.file}: tokenizer.ggml.merges: {merge[:80]!r}, expected two tokens that make one"
        )
    return [left, right]


def _splits(pre: PreTokenizer) -> list[dict[str, object]]:
    return [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        for pattern in pre.patterns
    ]


def _added(token: str, at: int, *, special: bool) -> dict[str, object]:
    return {
        "id": at, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
        "normalized": False, "special": special,
    }  # fmt: skip


def _dump(value: Mapping[str, object]) -> bytes:
    return (json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n").encode("utf-8")
