"""The tokenizer of a bundle: a checkpoint's tokenizer.json, checked, or one built from tiktoken's ranks.

Source: model-family.md, 6.
"""

import json
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import tokenizers

from edge.bundle.byte_level import RARE_BYTES, missing_bytes
from edge.bundle.byte_level import byte_alphabet as byte_alphabet
from export.checkpoint.config import Family
from export.checkpoint.files import has_file, parse_object, plain_file, read_bytes, read_json
from export.checkpoint.ranks import load_ranks, merges_of
from export.checkpoint.tokenizer_json import check_kind, plainly_written
from export.errors import TokenizerError

TOKENIZER: Final = "tokenizer.json"
TOKENIZER_CONFIG: Final = "tokenizer_config.json"
SPECIAL_TOKENS: Final = "tiktoken_special_tokens.json"
RANKS: Final = ".tiktoken"
MAX_BYTES: Final = 64 << 20

N_CONTROL: Final = 96  # ids after the mergeable ones: control tokens and fillers
SPLIT_PATTERN: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
STOP_TOKENS: Final = ("<sep>", "<|endoftext|>")
REQUIRED: Final = (
    *STOP_TOKENS, "<image>", "</image>", "<REKA_IMG_TOKEN>", "<video>", "</video>",
    "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>",
)  # fmt: skip

# Counted from the first id after the mergeable ones (100 256 in cl100k_base).
_TIKTOKEN_SPECIALS: Mapping[str, int] = {
    "<|endoftext|>": 1, "<|fim_prefix|>": 2, "<|fim_middle|>": 3, "<|fim_suffix|>": 4, "<|endofprompt|>": 20,
}  # fmt: skip
_REKA_SPECIALS: Mapping[str, int] = {
    "<|endofchunk|>": 21, "<REKA_IMG_TOKEN>": 22, "<image>": 23, "</image>": 24, "<REKA_ADO_TOKEN>": 25,
    "<audio>": 26, "</audio>": 27, "<video>": 28, "</video>": 29, "<transcript>": 30, "</transcript>": 31,
    "<ocr>": 32, "</ocr>": 33, "<sep>": 34, "<tool>": 35, "<tool_call>": 36, "</tool_call>": 37,
    "<tool_response>": 38, "</tool_response>": 39,
}  # fmt: skip
# Long runs, and short ones with another end: those make a pattern with nested repeats run away.
_PROBES: Final = (
    "a" * 4096, "1" * 4096, " " * 4096, "\r\n" * 512, "'s" * 512, "!?" * 512, "é😀\u200d漢" * 64, "\0\x7f\u0085",
    *(char * 64 + end for char in string.printable for end in "a!"), "".join(REQUIRED),
    "".join(map(chr, range(1, 0x250))),
)  # fmt: skip


@dataclass(frozen=True)
class TokenizerFiles:
    """What goes into a bundle; control has every added token, ordered by id; files: what was read, for the manifest.

    notes: what people should know of it.
    """

    tokenizer_json: bytes
    control: Mapping[str, int]
    stop_ids: tuple[int, ...]
    files: tuple[str, ...]
    notes: tuple[str, ...] = ()


def control_of(family: Family, *, sound: bool = False) -> tuple[str, ...]:
    """The control tokens that a family's prompts are made of, audio: those around audio too.

    Those of `llama` depend on the prompt format: `export.checkpoint.prompt_format`.
    """
    if family == "llama":
        return ("<|endoftext|>",)  # of Reka Flash, whose prompt is plain text
    return (*REQUIRED, "<audio>", "</audio>") if sound else REQUIRED


def convert(
    checkpoint: Path, *, ranks: Path | None = None, needed: Sequence[str] = REQUIRED, general: bool = False
) -> TokenizerFiles:
    """The tokenizer of a checkpoint folder.

    ranks: a .tiktoken file, for a checkpoint without a tokenizer.json, None: the folder's own, else that of tiktoken's
    cache; needed: the control tokens it must have, those of STOP_TOKENS among them end an answer; general: it may be
    written in the ways of other models than Reka's, and lack bytes that no text needs.
    Raises: TokenizerError if there is none, or it would change, lose or misread text; CheckpointError for bad files.
    """
    vocab_size = _vocab_size(checkpoint)
    if has_file(checkpoint, TOKENIZER):
        data = read_bytes(checkpoint, TOKENIZER, max_bytes=MAX_BYTES)
        files: tuple[str, ...] = (TOKENIZER,)
    else:
        data, files = _from_tiktoken(checkpoint, ranks, vocab_size)
    found = of_json(data, vocab_size=vocab_size, needed=needed, general=general)
    return replace(found, files=files)


def of_json(data: bytes, *, vocab_size: int, needed: Sequence[str] = REQUIRED, general: bool = False) -> TokenizerFiles:
    """The tokenizer of a tokenizer.json's bytes; the rest as in `convert`. Raises: TokenizerError, CheckpointError."""
    source = parse_object(data, name=TOKENIZER)
    if general:
        check_kind(source)
    plain = plainly_written(source) if general else source
    _check_structure(plain)
    missing = _missing(plain, general=general)
    protected = _protected(plain)
    written = data if protected is source else dump(protected)
    control = _control(protected, vocab_size, needed)
    probes = ["".join(char for char in text if not _needs(char, missing)) for text in _PROBES]
    _check_behaviour(open_tokenizer(written), control, probes)
    if plain is not source:
        _check_same(open_tokenizer(data), open_tokenizer(written), probes)
    stop_ids = tuple(sorted(control[token] for token in STOP_TOKENS if token in needed))
    return TokenizerFiles(written, control, stop_ids, (TOKENIZER,), _notes(missing))


def open_tokenizer(data: bytes) -> tokenizers.Tokenizer:
    """A tokenizer that never makes a control id of text.

    Raises: TokenizerError, also for what the library answers with a panic (a BaseException).
    """
    try:
        tokenizer = tokenizers.Tokenizer.from_str(data.decode("utf-8"))
        tokenizer.encode_special_tokens = True
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:
        raise TokenizerError(f"{TOKENIZER}: cannot be loaded: {str(error)[:200]}") from error
    return tokenizer


def build(vocab: Mapping[str, int], merges: Sequence[tuple[str, str]], control: Mapping[str, int]) -> bytes:
    """A tokenizer.json with the pre-tokenizer of section 6.

    vocab, merges: in the byte-level alphabet; control: every token that is no text. Same input, same bytes.
    """
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": SPLIT_PATTERN}, "behavior": "Isolated", "invert": False}
    return dump(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [_added(token, at) for token, at in sorted(control.items(), key=lambda item: item[1])],
            "normalizer": None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
            "post_processor": None,
            "decoder": byte_level,
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": False,
                "byte_fallback": False,
                # tiktoken takes a piece that is a token as it is, before any merge.
                "ignore_merges": True,
                "vocab": dict(sorted(vocab.items(), key=lambda item: item[1])),
                "merges": [list(pair) for pair in merges],
            },
        }
    )


def control_tokens(n_mergeable: int, *, vocab_size: int, reka: Mapping[str, int] | None = None) -> dict[str, int]:
    """The control tokens and fillers behind the mergeable ids; reka: in place of the table of section 6.

    Raises: TokenizerError if two tokens share an id or one lies outside.
    """
    own = reka if reka is not None else {token: n_mergeable + at for token, at in _REKA_SPECIALS.items()}
    control = {token: n_mergeable + at for token, at in _TIKTOKEN_SPECIALS.items() if token not in own} | dict(own)
    taken: dict[int, str] = {}
    for token, at in control.items():
        if not n_mergeable <= at < vocab_size:
            raise TokenizerError(f"{token}: id {at}, expected from {n_mergeable} to {vocab_size - 1}")
        if at in taken:
            raise TokenizerError(f"{token} and {taken[at]} share the id {at}")
        taken[at] = token
    fillers = {f"<|special_token_{at}|>": at for at in range(n_mergeable, vocab_size) if at not in taken}
    return dict(sorted((control | fillers).items(), key=lambda item: item[1]))


def dump(value: Mapping[str, object]) -> bytes:
    """JSON with one line and a newline at the end; the same value gives the same bytes."""
    return (json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n").encode("utf-8")


def _added(token: str, at: int) -> dict[str, object]:
    return {
        "id": at, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
        "normalized": False, "special": True,
    }  # fmt: skip


def _vocab_size(checkpoint: Path) -> int:
    config = read_json(checkpoint, "config.json")
    inner = config.get("text_config")
    size = (inner if isinstance(inner, dict) else config).get("vocab_size")
    if type(size) is not int or size < 256:
        raise TokenizerError(f"config.json: vocab_size is {size!r}: expected an integer of at least 256")
    return size


def _from_tiktoken(checkpoint: Path, path: Path | None, vocab_size: int) -> tuple[bytes, tuple[str, ...]]:
    if not has_file(checkpoint, TOKENIZER_CONFIG):
        raise TokenizerError(f"{checkpoint.name}: expected {TOKENIZER}, or {TOKENIZER_CONFIG} with tiktoken_model_name")
    name = read_json(checkpoint, TOKENIZER_CONFIG).get("tiktoken_model_name")
    if name != "cl100k_base":
        raise TokenizerError(f"{TOKENIZER_CONFIG}: tiktoken_model_name is {name!r}: expected 'cl100k_base'")
    own = None if path is not None else _ranks_of(checkpoint)
    ranks = load_ranks(path if own is None else plain_file(checkpoint, own))
    files: tuple[str, ...] = (TOKENIZER_CONFIG,) if own is None else (TOKENIZER_CONFIG, own)
    reka = None
    if has_file(checkpoint, SPECIAL_TOKENS):
        files += (SPECIAL_TOKENS,)
        reka = _special_ids(read_json(checkpoint, SPECIAL_TOKENS))
    alphabet = byte_alphabet()
    spelled = {token: "".join(alphabet[byte] for byte in token) for token in ranks}
    merges = [(spelled[left], spelled[right]) for left, right in merges_of(ranks)]
    control = control_tokens(len(ranks), vocab_size=vocab_size, reka=reka)
    return build({spelled[token]: rank for token, rank in ranks.items()}, merges, control), files


def _ranks_of(checkpoint: Path) -> str | None:
    """The name of the folder's .tiktoken file, None without one. Raises: TokenizerError for several."""
    names = sorted(path.name for path in checkpoint.iterdir() if path.suffix == RANKS)
    if len(names) > 1:
        raise TokenizerError(f"{names[0]} and {names[1]} are both there: name one by --ranks")
    return names[0] if names else None


def _special_ids(table: Mapping[str, object]) -> dict[str, int]:
    ids: dict[str, int] = {}
    for token, at in table.items():
        if not token or type(at) is not int:
            raise TokenizerError(f"{SPECIAL_TOKENS}: {token!r}: {at!r}, expected an id")
        ids[token] = at
    return ids


def _check_structure(source: Mapping[str, object]) -> None:
    """Refuses what alters text, or decodes to something else than the bytes that went in."""
    for key in ("normalizer", "truncation", "padding"):
        if source.get(key) is not None:
            raise TokenizerError(f"{TOKENIZER}: {key} would change the text; expected null")
    model = source.get("model")
    if not isinstance(model, dict) or model.get("type") != "BPE" or not isinstance(model.get("vocab"), dict):
        raise TokenizerError(f"{TOKENIZER}: model: expected a BPE with a vocabulary")
    for key in ("dropout", "byte_fallback", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key):
            raise TokenizerError(f"{TOKENIZER}: model.{key} is {model[key]!r}: expected none")
    decoder = source.get("decoder")
    if not isinstance(decoder, dict) or decoder.get("type") != "ByteLevel":
        raise TokenizerError(f"{TOKENIZER}: decoder: expected ByteLevel")
    levels = [step for step in _steps(source.get("pre_tokenizer")) if step.get("type") == "ByteLevel"]
    if len(levels) != 1 or levels[0].get("add_prefix_space", True):
        raise TokenizerError(f"{TOKENIZER}: pre_tokenizer: expected one ByteLevel without add_prefix_space")


def _missing(source: Mapping[str, object], *, general: bool) -> tuple[int, ...]:
    """The bytes without a token. Raises: TokenizerError for those that text needs; without general, for any."""
    model = source["model"]
    missing = missing_bytes(model["vocab"]) if isinstance(model, dict) else ()
    needed = [byte for byte in missing if not general or byte not in RARE_BYTES]
    if needed:
        raise TokenizerError(f"{TOKENIZER}: no token for the byte 0x{needed[0]:02x} and {len(needed) - 1} more")
    return missing


def _needs(char: str, missing: Sequence[int]) -> bool:
    return any(byte in missing for byte in char.encode())


def _notes(missing: Sequence[int]) -> tuple[str, ...]:
    """What is said of missing bytes: those that UTF-8 has."""
    found = [f"0x{byte:02x}" for byte in missing if byte not in (0xC0, 0xC1) and byte < 0xF5]
    if not found:
        return ()
    return (f"{TOKENIZER}: no tokens for the bytes {', '.join(found)}: a text with characters of them is refused",)


def _steps(pre_tokenizer: object) -> Iterator[Mapping[str, object]]:
    if isinstance(pre_tokenizer, dict):
        inner = pre_tokenizer.get("pretokenizers")
        for step in inner if isinstance(inner, list) else [pre_tokenizer]:
            if isinstance(step, dict):
                yield step


def _protected(source: Mapping[str, object]) -> Mapping[str, object]:
    """The same tokenizer with every added token special, since only those can be kept out of text."""
    added = source.get("added_tokens")
    if not isinstance(added, list) or not all(isinstance(token, dict) for token in added):
        raise TokenizerError(f"{TOKENIZER}: added_tokens: expected a list of objects")
    if all(token.get("special") is True for token in added):
        return source
    return {**source, "added_tokens": [{**token, "special": True} for token in added]}


def _control(source: Mapping[str, object], vocab_size: int, needed: Sequence[str]) -> dict[str, int]:
    """Every added token by its string, ordered by id. Raises: TokenizerError for ids that are doubled or outside."""
    model, added = source["model"], source["added_tokens"]
    if not isinstance(model, dict) or not isinstance(added, list):
        raise TokenizerError(f"{TOKENIZER}: expected model and added_tokens")
    owners: dict[int, str] = {}
    control: dict[str, int] = {}
    for token in added:
        control[str(token.get("content"))] = token.get("id")
    if len(control) != len(added) or "" in control:
        raise TokenizerError(f"{TOKENIZER}: added_tokens: expected every content once, and none empty")
    for token, at in [*model["vocab"].items(), *control.items()]:
        if type(at) is not int or not 0 <= at < vocab_size:
            raise TokenizerError(f"{TOKENIZER}: {token[:40]!r}: id {at!r}, expected from 0 to {vocab_size - 1}")
        if owners.setdefault(at, token) != token:
            raise TokenizerError(f"{TOKENIZER}: {token[:40]!r} and {owners[at][:40]!r} share the id {at}")
    missing = [token for token in needed if token not in control]
    if missing:
        raise TokenizerError(f"{TOKENIZER}: added_tokens lack {missing[0]}: the prompt needs it")
    return dict(sorted(control.items(), key=lambda item: item[1]))


def _check_behaviour(tokenizer: tokenizers.Tokenizer, control: Mapping[str, int], probes: Sequence[str]) -> None:
    """Ids are as declared, text survives the way there and back, and no text makes a control id."""
    for token, at in control.items():
        if tokenizer.token_to_id(token) != at:
            raise TokenizerError(f"{TOKENIZER}: {token[:40]!r} loads as {tokenizer.token_to_id(token)}, expected {at}")
    reserved = frozenset(control.values())
    for text in probes:
        ids = _encoded(tokenizer, text)
        if tokenizer.decode(ids, skip_special_tokens=False) != text:
            raise TokenizerError(f"{TOKENIZER}: {text[:20]!r} does not survive encoding and decoding")
        if not reserved.isdisjoint(ids):
            raise TokenizerError(f"{TOKENIZER}: {text[:20]!r} encodes to a control token")


def _check_same(stored: tokenizers.Tokenizer, written: tokenizers.Tokenizer, probes: Sequence[str]) -> None:
    """What was written anew makes the ids of what was stored."""
    for text in probes:
        if _encoded(stored, text) != _encoded(written, text):
            raise TokenizerError(f"{TOKENIZER}: {text[:20]!r} becomes other tokens once it is written plainly")


def _encoded(tokenizer: tokenizers.Tokenizer, text: str) -> list[int]:
    """The ids of a text. Raises: TokenizerError, also for the library's panics."""
    try:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:
        raise TokenizerError(f"{TOKENIZER}: fails on {text[:20]!r}: {str(error)[:200]}") from error
    return ids
