"""Text to token ids and back to bytes, made so that no text can ever become a control token.

The instance that encodes text is built without a single added token, and without control strings in its vocabulary:
what it does not know it cannot emit. Control ids enter a prompt only by name, from `Tokenizer.control`.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

import tokenizers

from edge.bundle.bundle import Bundle
from edge.bundle.byte_level import BYTE_OF, RARE_BYTES, missing_bytes
from edge.errors import BundleError, TextError

FILE = "tokenizer.json"

# Ligatures, decomposed accents, case, joiners, far planes and every kind of white space: what a normalizer would alter.
_CANARIES = (
    "Hello, World! it's 1234567 \t\u00a0\u3000  \r\n\n end ",
    " \ufb01ne e\u0301 \u00c5 \u212b \u0130 \u200b\u200d\ufeff \uac00\u1100\u1161 \u5b57 \x00\x7f",
    "\U0001f468\u200d\U0001f469 \U0010ffff",
    "".join(map(chr, range(0x300))),
)


class Tokenizer:
    """A byte-level BPE: text to ids, ids to bytes, control tokens by name.

    `control` maps every control token's spelling to its id; `missing`: the bytes that no token of text stands for.
    """

    def __init__(
        self,
        encoder: tokenizers.Tokenizer,
        control: Mapping[str, int],
        pieces: tuple[bytes, ...],
        missing: tuple[int, ...] = (),
    ) -> None:
        self.control: Mapping[str, int] = MappingProxyType(dict(control))
        self.missing = missing
        self._encoder = encoder
        self._control_ids = frozenset(control.values())
        self._pieces = pieces
        self._longest = max(map(len, pieces), default=1)

    @classmethod
    def open(cls, bundle: Bundle) -> "Tokenizer":
        """Load and test a bundle's tokenizer. Raises: BundleError naming the file and what is wrong with it."""
        path = bundle.file(FILE)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise BundleError(f"{path}: cannot be read: {error.strerror}") from error
        manifest = bundle.manifest
        return cls.parse(data, control=manifest.prompt.control, vocab_size=manifest.text.vocab_size, file=str(path))

    @classmethod
    def parse(cls, data: bytes, *, control: Mapping[str, int], vocab_size: int, file: str = FILE) -> "Tokenizer":
        """Build a tokenizer from the bytes of a tokenizer.json and test it on every control string.

        control must list exactly the added tokens; every id must be below vocab_size. Raises: BundleError.
        """
        document = _load(data, file)
        model = _object(document, "model", file)
        vocab = _vocab(model, vocab_size, file)
        _check_control(_added(document, file), control, vocab, file)
        pieces = _token_bytes(vocab, control, vocab_size, file)
        tokenizer = cls(_encoder(document, model, vocab, control, file), control, pieces, missing_bytes(vocab))
        tokenizer._self_test(file)
        return tokenizer

    def encode(self, text: str) -> list[int]:
        """Encode one run of text; its ids decode to exactly this text and none of them is a control id.

        Raises: TextError for a lone surrogate, a character that the vocabulary cannot write, or a text the tokenizer
        gives up on; BundleError when the tokenizer loses text or emits a control id all the same.
        """
        try:
            data = text.encode()
        except UnicodeEncodeError as error:
            code, index = ord(text[error.start]), error.start
            raise TextError(f"text: expected Unicode, got half a surrogate pair (U+{code:04X}) at {index}") from error
        if any(byte in data for byte in self.missing):
            raise self._unwritable(text)
        try:
            ids: list[int] = self._encoder.encode(text, add_special_tokens=False).ids
        except BaseException as error:
            if not _is_theirs(error):
                raise
            raise TextError(f"text: the tokenizer failed on this text of {len(text)} characters") from error
        if not self._control_ids.isdisjoint(ids):
            raise BundleError(f"{FILE}: text came out as control ids {sorted(self._control_ids.intersection(ids))}")
        if self.decode_bytes(ids) != data:
            raise BundleError(f"{FILE}: a text does not survive encoding: {text[:80]!r}")
        return ids

    def encode_with_control(self, text: str) -> list[int]:
        """Encode a text in which the spelling of a control token stands for it. Raises: as encode.

        For who asks for tokens by their spelling; a prompt is never made this way.
        """
        spellings = sorted(self.control, key=len, reverse=True)  # the longest that fits
        if not spellings:
            return self.encode(text)
        ids: list[int] = []
        for run in re.split(f"({'|'.join(map(re.escape, spellings))})", text):
            token = self.control.get(run)
            ids += self.encode(run) if token is None else [token]
        return ids

    def fewest_ids(self, text: str) -> int:
        """Return a lower bound of how many ids a text takes, without encoding it."""
        return -(-len(text) // self._longest)  # a character has at least one byte

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes a token stands for: a control token's spelling, nothing for an id without a token.

        Raises: ValueError for an id outside the vocabulary.
        """
        if not 0 <= token < len(self._pieces):
            raise ValueError(f"token: expected an id below {len(self._pieces)}, got {token}")
        return self._pieces[token]

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Return the bytes of a sequence of ids; they may end inside a character."""
        return b"".join(map(self.token_bytes, ids))

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of a sequence of ids, U+FFFD for what is not UTF-8."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def can_write(self, text: str) -> bool:
        """Tell whether the vocabulary has every byte of a text."""
        data = text.encode("utf-8", "replace")
        return not any(byte in data for byte in self.missing)

    def _unwritable(self, text: str) -> TextError:
        """Return the error for a text with a character that no tokens write."""
        code = next(ord(char) for char in text if not self.can_write(char))
        return TextError(f"text: the model's vocabulary has no tokens for U+{code:04X}: leave this character out")

    def _self_test(self, file: str) -> None:
        """Encode every control string, alone and in company. Raises: BundleError."""
        texts = [*_CANARIES, "".join(self.control), " ".join(self.control)]
        for spelling in self.control:
            texts += [spelling, f" {spelling}", f"{spelling}{spelling}", f"a{spelling}b", f"\n\n{spelling}\n"]
        try:
            for text in texts:
                self.encode("".join(filter(self.can_write, text)))
        except TextError as error:
            raise BundleError(f"{file}: the tokenizer fails on a plain text") from error


def text_pieces(data: bytes, *, n_text: int, vocab_size: int, file: str = FILE) -> tuple[bytes, ...]:
    """Return the bytes of each id below n_text, for models whose ids of text come first. Raises: BundleError."""
    vocab = _vocab(_object(_load(data, file), "model", file), vocab_size, file)
    return _token_bytes({spelling: token for spelling, token in vocab.items() if token < n_text}, {}, n_text, file)


def text_encoder(data: bytes, *, n_text: int, vocab_size: int, file: str = FILE) -> Callable[[str], list[int]]:
    """Return what encodes a text as ids below n_text, whatever it holds. Raises: BundleError.

    What is returned raises TextError for half a surrogate pair, or where the tokenizer gives up.
    """
    document = _load(data, file)
    model = _object(document, "model", file)
    vocab = _vocab(model, vocab_size, file)
    control = {spelling: token for spelling, token in vocab.items() if token >= n_text}
    encoder = _encoder(document, model, vocab, control, file)

    def encode(text: str) -> list[int]:
        try:
            text.encode()
            ids: list[int] = encoder.encode(text, add_special_tokens=False).ids
        except BaseException as error:
            if not _is_theirs(error):
                raise
            raise TextError(f"text: the tokenizer failed on this text of {len(text)} characters") from error
        return ids

    return encode


def _load(data: bytes, file: str) -> dict[str, object]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{file}: not a JSON document") from error
    if not isinstance(document, dict):
        raise BundleError(f"{file}: expected an object, got {type(document).__name__}")
    if document.get("normalizer") is not None:
        raise BundleError(f"{file}: normalizer: expected null (text is never rewritten)")
    return document


def _object(document: Mapping[str, object], key: str, file: str) -> dict[str, object]:
    value = document.get(key)
    if not isinstance(value, dict):
        raise BundleError(f"{file}: {key}: expected an object, got {value!r:.100}")
    return value


def _vocab(model: Mapping[str, object], vocab_size: int, file: str) -> dict[str, int]:
    """Return the model's vocabulary, each id once. Raises: BundleError."""
    if model.get("type") != "BPE":
        raise BundleError(f"{file}: model.type: expected 'BPE', got {model.get('type')!r:.100}")
    if model.get("dropout"):
        raise BundleError(f"{file}: model.dropout: expected null, got {model['dropout']!r:.100}")
    vocab: dict[str, int] = {}
    for spelling, token in _object(model, "vocab", file).items():
        if type(token) is not int or not 0 <= token < vocab_size:
            raise BundleError(
                f"{file}: model.vocab[{spelling!r:.100}]: expected an id below {vocab_size}, got {token!r:.100}"
            )
        vocab[spelling] = token
    if len(set(vocab.values())) != len(vocab):
        raise BundleError(f"{file}: model.vocab: an id is given twice")
    missing = [byte for byte in missing_bytes(vocab) if byte not in RARE_BYTES]
    if missing:
        msg = f"expected all 256 bytes but those that no text needs, no token for byte {missing[0]}"
        raise BundleError(f"{file}: model.vocab: {msg}")
    return vocab


def _added(document: Mapping[str, object], file: str) -> dict[str, int]:
    """Return the added tokens, special or not. Raises: BundleError."""
    entries = document.get("added_tokens")
    added: dict[str, int] = {}
    for entry in entries if isinstance(entries, list) else [entries]:
        content, token = (entry.get("content"), entry.get("id")) if isinstance(entry, dict) else (None, None)
        if not isinstance(content, str) or type(token) is not int:
            raise BundleError(f"{file}: added_tokens: expected objects with content and id, got {entry!r:.100}")
        added[content] = token
    return added


def _check_control(added: Mapping[str, int], control: Mapping[str, int], vocab: Mapping[str, int], file: str) -> None:
    """Check that manifest, added tokens and vocabulary agree on every control token. Raises: BundleError."""
    for spelling in sorted(added.keys() | control.keys()):
        wanted, got = control.get(spelling), added.get(spelling)
        if wanted != got:
            raise BundleError(f"{file}: added token {spelling!r:.100}: expected id {wanted} by the manifest, got {got}")
        if wanted != vocab.get(spelling, wanted):
            raise BundleError(f"{file}: model.vocab[{spelling!r:.100}]: expected {wanted}, got {vocab[spelling]}")
    plain = {token: spelling for spelling, token in vocab.items() if spelling not in control}
    taken: dict[int, str] = {}
    for spelling, token in control.items():
        other = taken.get(token, plain.get(token))
        if other is not None or not spelling:
            raise BundleError(f"{file}: control token {spelling!r:.100}: id {token} is also {other!r:.100}")
        taken[token] = spelling


def _token_bytes(vocab: Mapping[str, int], control: Mapping[str, int], size: int, file: str) -> tuple[bytes, ...]:
    """Return the bytes of each of `size` ids. Raises: BundleError for a token or control token out of place."""
    table = [b""] * size
    for spelling, token in vocab.items():
        if spelling not in control:
            try:
                table[token] = bytes(map(BYTE_OF.__getitem__, spelling))
            except KeyError as error:
                raise BundleError(
                    f"{file}: model.vocab[{spelling!r:.100}]: not written in the byte alphabet"
                ) from error
    for spelling, token in control.items():
        if not 0 <= token < size:
            raise BundleError(f"{file}: control token {spelling!r:.100}: expected an id below {size}, got {token}")
        try:
            table[token] = spelling.encode()
        except UnicodeEncodeError as error:
            raise BundleError(f"{file}: control token {spelling!r:.100}: half a surrogate pair") from error
    return tuple(table)


def _encoder(
    document: Mapping[str, object],
    model: Mapping[str, object],
    vocab: Mapping[str, int],
    control: Mapping[str, int],
    file: str,
) -> tokenizers.Tokenizer:
    """Build the instance that encodes text: pre-tokenizer and BPE only, and no control string anywhere in it."""
    plain = {spelling: token for spelling, token in vocab.items() if spelling not in control}
    merges = model.get("merges")
    if len(plain) != len(vocab) and isinstance(merges, list):
        merges = [merge for merge in merges if _merged(merge) not in control]
    stripped = {
        "version": document.get("version"),
        "added_tokens": [],
        "pre_tokenizer": document.get("pre_tokenizer"),
        # What has no token is refused before it comes here: nothing may stand for it.
        "model": {**model, "vocab": plain, "merges": merges, "unk_token": None},
    }
    try:
        encoder = tokenizers.Tokenizer.from_str(json.dumps(stripped))
    except BaseException as error:
        if not _is_theirs(error):
            raise
        raise BundleError(f"{file}: not a tokenizer this version can load") from error
    # It has no added tokens to match; this holds the door should a later version of the library add some.
    encoder.encode_special_tokens = True
    return encoder


def _merged(merge: object) -> str:
    """Return what a merge makes; merges are written "a b" or ["a", "b"]."""
    return "".join(map(str, merge)) if isinstance(merge, list) else str(merge).replace(" ", "", 1)


def _is_theirs(error: BaseException) -> bool:
    """Tell the library's own failures apart: its panics are no Exception, and Ctrl-C must get through."""
    return type(error).__name__ == "PanicException" or (
        isinstance(error, Exception) and not isinstance(error, MemoryError)
    )
