"""The tokenizer of a bundle: taken as it is, made safe, refused, or built from tiktoken's ranks."""

import base64
import copy
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from export.checkpoint import ranks as ranks_module
from export.checkpoint.random_checkpoint import random_tokenizer
from export.checkpoint.ranks import load_ranks, merges_of
from export.checkpoint.tokenizer import (
    REQUIRED,
    SPLIT_PATTERN,
    TokenizerFiles,
    byte_alphabet,
    control_tokens,
    convert,
    open_tokenizer,
)
from export.errors import CheckpointError, TokenizerError, UnsupportedError

# A busy machine is no fault of the code.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
GOOD = random_tokenizer(416)
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
PATTERN = WORDS + r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
HARD = [
    "", " ", "\n", "\r\n\r\n", "a  b   c", "don't DON'T I'll we've", "12345678 3.14", "naïve café ÄÖÜß", "日本語の文",
    "😀👩‍👩‍👧‍👦🏳️‍🌈", "a\u0301\u0302", "\0\x01\x7f", "\u200b\u200d\ufeff", "tab\tand\u00a0space\u3000", "x" * 500,
    "<sep><image></image>", "<|endoftext|>", "<|special_token_416|>", "human: hi\n\nassistant:", "!?!?...\n\n", "'S'T",
    "\u0600\u0601 العربية", "हिन्दी", "\U00010000\U0010ffff", "a\rb\nc\r\nd", "  \n  \n", "\ud7ff\ue000", " " * 500,
]  # fmt: skip


def folder_with(tmp_path: Path, tokenizer: bytes | None, *, vocab_size: int = 512, **files: bytes) -> Path:
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": vocab_size}))
    if tokenizer is not None:
        (tmp_path / "tokenizer.json").write_bytes(tokenizer)
    for name, data in files.items():
        (tmp_path / f"{name}.json").write_bytes(data)
    return tmp_path


def edited(change: Callable[[dict[str, Any]], object]) -> bytes:
    value = copy.deepcopy(json.loads(GOOD))
    change(value)
    return json.dumps(value).encode()


def test_an_audio_tokenizer_is_taken_byte_for_byte(tmp_path: Path) -> None:
    found = convert(folder_with(tmp_path, GOOD))
    assert found.tokenizer_json == GOOD
    assert found.files == ("tokenizer.json",)
    assert found.stop_ids == (found.control["<|endoftext|>"], found.control["<sep>"]) == (417, 450)


def test_every_added_token_is_a_control_token_in_the_order_of_ids(tmp_path: Path) -> None:
    control = convert(folder_with(tmp_path, GOOD)).control
    assert list(control.values()) == list(range(416, 512))
    assert set(REQUIRED) < control.keys()
    assert control["<|special_token_416|>"] == 416


def test_the_released_ids_are_those_of_the_table() -> None:
    control = control_tokens(100_256, vocab_size=100_352)
    table = {"<|endoftext|>": 100_257, "<|fim_prefix|>": 100_258, "<|fim_suffix|>": 100_260, "<|endofprompt|>": 100_276}
    table |= {"<|endofchunk|>": 100_277, "<REKA_IMG_TOKEN>": 100_278, "<image>": 100_279, "</image>": 100_280}
    table |= {"<audio>": 100_282, "<video>": 100_284, "</ocr>": 100_289, "<sep>": 100_290, "</tool_response>": 100_295}
    assert {token: control[token] for token in table} == table
    assert sorted(control.values()) == list(range(100_256, 100_352))
    assert control["<|special_token_100256|>"] == 100_256
    assert control["<|special_token_100351|>"] == 100_351


def test_no_text_makes_a_control_id(tmp_path: Path) -> None:
    found = convert(folder_with(tmp_path, GOOD))
    tokenizer = open_tokenizer(found.tokenizer_json)
    reserved = set(found.control.values())
    for token in found.control:
        for text in (token, f"a{token}b", token * 2, f" {token}\n"):
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            assert reserved.isdisjoint(ids)
            assert tokenizer.decode(ids) == text


def test_added_tokens_that_are_not_special_are_made_special(tmp_path: Path) -> None:
    data = edited(lambda value: [token.update(special=False) for token in value["added_tokens"][-3:]])
    found = convert(folder_with(tmp_path, data))
    assert found.tokenizer_json == GOOD
    assert open_tokenizer(found.tokenizer_json).encode("<|special_token_511|>").ids[0] < 416


def drop_byte(value: dict[str, Any]) -> None:
    vocab, alphabet = value["model"]["vocab"], byte_alphabet()
    vocab["unreachable"] = vocab.pop(alphabet[0])


def other_id(value: dict[str, Any]) -> None:
    value["added_tokens"][-1]["id"] = 100


BAD: Mapping[str, tuple[bytes, str]] = {
    "no JSON": (b"{", "not the JSON expected"),
    "a key twice": (b'{"model": {}, "model": {}}', "twice"),
    "a list": (b"[]", "expected a JSON object"),
    "deep": (b'{"a":' + b"[" * 100_000, "nested too deeply"),
    "normalizer": (edited(lambda v: v.update(normalizer={"type": "NFC"})), "normalizer would change the text"),
    "truncation": (edited(lambda v: v.update(truncation={"max_length": 4})), "truncation would change"),
    "padding": (edited(lambda v: v.update(padding={"pad_id": 0})), "padding would change"),
    "word pieces": (edited(lambda v: v["model"].update(type="WordPiece")), "expected a BPE"),
    "no model": (edited(lambda v: v.pop("model")), "expected a BPE"),
    "dropout": (edited(lambda v: v["model"].update(dropout=0.1)), "dropout is 0.1"),
    "byte fallback": (edited(lambda v: v["model"].update(byte_fallback=True)), "byte_fallback is True"),
    "subword prefix": (edited(lambda v: v["model"].update(continuing_subword_prefix="##")), "continuing_subword"),
    "no decoder": (edited(lambda v: v.update(decoder=None)), "decoder: expected ByteLevel"),
    "other decoder": (edited(lambda v: v.update(decoder={"type": "Fuse"})), "decoder: expected ByteLevel"),
    "no pre-tokenizer": (edited(lambda v: v.update(pre_tokenizer=None)), "expected one ByteLevel"),
    "a space in front": (
        edited(lambda v: v["pre_tokenizer"]["pretokenizers"][1].update(add_prefix_space=True)),
        "without add_prefix_space",
    ),
    "text removed": (
        edited(lambda v: v["pre_tokenizer"]["pretokenizers"][0].update(behavior="Removed")),
        "does not survive",
    ),
    "a byte without token": (edited(drop_byte), "no token for the byte 0x00 and 0 more"),
    "added tokens missing": (edited(lambda v: v.pop("added_tokens")), "added_tokens: expected a list"),
    "no sep": (edited(lambda v: v["added_tokens"][34].update(content="<sepp>")), "lack <sep>"),
    "no picture token": (edited(lambda v: v["added_tokens"][22].update(content="<x>")), "lack <REKA_IMG_TOKEN>"),
    "content twice": (edited(lambda v: v["added_tokens"][0].update(content="<sep>")), "every content once"),
    "empty content": (edited(lambda v: v["added_tokens"][0].update(content="")), "none empty"),
    "shared id": (edited(other_id), "share the id 100"),
    "negative id": (edited(lambda v: v["model"]["vocab"].update({"xyzzy": -1})), "id -1, expected from 0 to 511"),
    "id beyond the table": (edited(lambda v: v["added_tokens"][-1].update(id=512)), "id 512, expected from 0 to 511"),
    "id of another kind": (edited(lambda v: v["added_tokens"][-1].update(id="511")), "id '511'"),
    "a merge of nothing": (edited(lambda v: v["model"]["merges"].append(["xx", "yy"])), "cannot be loaded"),
    "a pattern that runs away": (
        edited(lambda v: v["pre_tokenizer"]["pretokenizers"][0]["pattern"].update(Regex="(a+)+$")),
        "fails on 'aaaaaaaaaa",
    ),
    "a broken pattern": (
        edited(lambda v: v["pre_tokenizer"]["pretokenizers"][0]["pattern"].update(Regex="(")),
        "cannot be loaded",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_tokenizer_is_refused(tmp_path: Path, case: str) -> None:
    data, reason = BAD[case]
    with pytest.raises((TokenizerError, CheckpointError), match=reason) as caught:
        convert(folder_with(tmp_path, data))
    assert str(caught.value).startswith("tokenizer.json: ")
    assert len(str(caught.value)) < 400


def test_ids_that_load_as_others_are_refused(tmp_path: Path) -> None:
    """The library numbers added tokens itself; behind a gap they would get other ids than declared."""
    data = edited(lambda value: value["added_tokens"].pop(0))
    with pytest.raises(TokenizerError, match=r"'<\|endoftext\|>' loads as 416, expected 417"):
        convert(folder_with(tmp_path, data))


@pytest.mark.parametrize("size", [None, 255, "512"])
def test_the_vocabulary_size_must_be_known(tmp_path: Path, size: object) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": size}))
    with pytest.raises(TokenizerError, match="vocab_size"):
        convert(tmp_path)


def test_the_size_of_the_text_tower_counts(tmp_path: Path) -> None:
    folder_with(tmp_path, GOOD)
    (tmp_path / "config.json").write_text(json.dumps({"text_config": {"vocab_size": 511}, "vocab_size": 512}))
    with pytest.raises(TokenizerError, match="expected from 0 to 510"):
        convert(tmp_path)


def small_ranks() -> dict[bytes, int]:
    """Byte-pair ranks counted on a text, as tiktoken's file has them."""
    words = [[bytes([byte]) for byte in word] for text in HARD for word in text.encode().split(b" ")]
    words += [[bytes([byte]) for byte in b" the circle and the square, " * 3], [b"a"] * 16]
    ranks = {bytes([byte]): byte for byte in range(256)}
    while len(ranks) < 400:
        counts: dict[bytes, int] = {}
        for word in words:
            for left, right in zip(word, word[1:], strict=False):
                counts[left + right] = counts.get(left + right, 0) + 1
        best = max(counts, key=lambda token: (token not in ranks, counts[token], token))
        ranks.setdefault(best, len(ranks))
        for word in words:
            at = 0
            while at < len(word) - 1:
                if word[at] + word[at + 1] == best:
                    word[at : at + 2] = [best]
                at += 1
    return ranks


RANKS = small_ranks()


def tiktoken_lines(ranks: Mapping[bytes, int]) -> bytes:
    return b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in ranks.items())


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """A checkpoint without tokenizer.json, and its ranks beside it."""
    special = {"<sep>": 430, "<image>": 431, "</image>": 432, "<REKA_IMG_TOKEN>": 433, "<video>": 434, "</video>": 435}
    special |= {"<tool_call>": 436, "</tool_call>": 437, "<tool_response>": 438, "</tool_response>": 439}
    (tmp_path / "small.tiktoken").write_bytes(tiktoken_lines(RANKS))
    config, table = b'{"tiktoken_model_name": "cl100k_base"}', json.dumps(special).encode()
    return folder_with(tmp_path, None, vocab_size=448, tokenizer_config=config, tiktoken_special_tokens=table)


def test_a_tokenizer_built_from_ranks_encodes_like_tiktoken(released: Path) -> None:
    tiktoken = pytest.importorskip("tiktoken")
    reference = tiktoken.Encoding("small", pat_str=PATTERN, mergeable_ranks=RANKS, special_tokens={})
    tokenizer = open_tokenizer(convert(released, ranks=released / "small.tiktoken").tokenizer_json)
    for text in HARD:
        assert tokenizer.encode(text, add_special_tokens=False).ids == reference.encode_ordinary(text), text

    @PATIENT
    @given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
    def test_any(text: str) -> None:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert ids == reference.encode_ordinary(text)
        assert tokenizer.decode(ids) == text

    test_any()


def test_the_pattern_is_that_of_section_6() -> None:
    assert SPLIT_PATTERN == PATTERN


def test_special_tokens_come_from_their_file_and_the_rest_is_filled(released: Path) -> None:
    found = convert(released, ranks=released / "small.tiktoken")
    assert found.files == ("tokenizer_config.json", "tiktoken_special_tokens.json")
    assert (found.control["<sep>"], found.control["<|endoftext|>"], found.stop_ids) == (430, 401, (401, 430))
    assert sorted(found.control.values()) == list(range(400, 448))
    assert found.control["<|special_token_447|>"] == 447
    assert "<audio>" not in found.control


def test_a_tiktoken_file_of_the_folder_is_read_unless_another_is_named(released: Path, tmp_path: Path) -> None:
    found = convert(released)
    assert found.files == ("tokenizer_config.json", "small.tiktoken", "tiktoken_special_tokens.json")
    assert found.tokenizer_json == convert(released, ranks=released / "small.tiktoken").tokenizer_json
    (released / "other.tiktoken").write_bytes(b"")
    with pytest.raises(TokenizerError, match="other.tiktoken and small.tiktoken are both there: name one by --ranks"):
        convert(released)


def test_two_conversions_give_the_same_bytes(released: Path) -> None:
    first = convert(released, ranks=released / "small.tiktoken")
    assert convert(released, ranks=released / "small.tiktoken") == first
    assert Tokenizer.from_str(first.tokenizer_json.decode()).get_vocab_size() == 448


def test_merges_are_the_two_pieces_of_each_token() -> None:
    ranks = {bytes([byte]): byte for byte in range(256)} | {b"ab": 256, b"abc": 257, b"xyz": 258}
    assert list(merges_of(ranks)) == [(b"a", b"b"), (b"ab", b"c")]


def test_without_any_tokenizer_both_ways_are_named(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"expected tokenizer\.json, or tokenizer_config\.json"):
        convert(folder_with(tmp_path, None))


@pytest.mark.parametrize("name", [None, "gpt2", 7])
def test_another_encoding_is_refused(tmp_path: Path, name: object) -> None:
    folder = folder_with(tmp_path, None, tokenizer_config=json.dumps({"tiktoken_model_name": name}).encode())
    with pytest.raises(TokenizerError, match="expected 'cl100k_base'"):
        convert(folder)


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({"<sep>": "430"}, "'<sep>': '430', expected an id"),
        ({"": 430}, "'': 430, expected an id"),
        ({"<sep>": 300}, "<sep>: id 300, expected from 400 to 447"),
        ({"<sep>": 448}, "<sep>: id 448, expected from 400 to 447"),
        ({"<sep>": 430, "<image>": 430}, "<image> and <sep> share the id 430"),
        ({"<sep>": 401}, r"<sep> and <\|endoftext\|> share the id 401"),
    ],
)
def test_a_bad_table_of_special_tokens_is_refused(released: Path, table: Mapping[str, object], reason: str) -> None:
    (released / "tiktoken_special_tokens.json").write_text(json.dumps(table))
    with pytest.raises(TokenizerError, match=reason):
        convert(released, ranks=released / "small.tiktoken")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no token for the byte 0x00"),
        (b"AA== 0\nnonsense\n", "line 2: expected base64"),
        (b"AA== 0\n!!! 1\n", "line 2: expected base64"),
        (b"AA== 0\nAQ== 2\n", "line 2: rank 2, expected a new token of rank 1"),
        (b"AA== 0\nAA== 1\n", "line 2: rank 1"),
        (b"AA== 0\nAQ== one\n", "line 2: expected base64"),
    ],
)
def test_damaged_ranks_are_refused(tmp_path: Path, data: bytes, reason: str) -> None:
    (tmp_path / "a.tiktoken").write_bytes(data)
    with pytest.raises(TokenizerError, match=rf"a\.tiktoken: {reason}"):
        load_ranks(tmp_path / "a.tiktoken")


@pytest.mark.parametrize("variable", ["TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"])
def test_ranks_come_from_tiktokens_cache_if_they_are_the_known_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR", raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    with pytest.raises(TokenizerError, match="is not in tiktoken's cache"):
        load_ranks(None)
    data = tiktoken_lines(RANKS)
    (tmp_path / "9b5ad71b2ce5302211f9c61530b329a4922fc6a4").write_bytes(data)
    with pytest.raises(TokenizerError, match="sha256 differs"):
        load_ranks(None)
    monkeypatch.setattr(ranks_module, "_CACHED_SHA256", hashlib.sha256(data).hexdigest())
    assert load_ranks(None) == RANKS


def general(tmp_path: Path, tokenizer: bytes) -> TokenizerFiles:
    return convert(folder_with(tmp_path, tokenizer), needed=(), general=True)


def idle(value: dict[str, Any]) -> None:
    """What transformers writes of a byte-level BPE that came from a GGUF file."""
    replaced = {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}
    value["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Sequence", "normalizers": []}]}
    value["decoder"] = {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}, replaced,
                                                         value["decoder"]]}  # fmt: skip
    value["model"]["byte_fallback"] = True


def test_steps_that_do_nothing_are_left_out_of_other_models_tokenizers(tmp_path: Path) -> None:
    found = json.loads(general(tmp_path, edited(idle)).tokenizer_json)
    assert found == json.loads(GOOD)
    with pytest.raises(TokenizerError, match="normalizer would change"):
        convert(folder_with(tmp_path, edited(idle)))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda v: v.update(normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}]}), "normalizer would"),
        (lambda v: v.update(decoder={"type": "Sequence", "decoders": [v["decoder"], {"type": "Strip"}]}), "decoder"),
        (lambda v: v.update(decoder={"type": "Sequence", "decoders": [{"type": "Fuse"}]}), "decoder"),
        (
            lambda v: v.update(decoder={"type": "Sequence", "decoders": [
                {"type": "Replace", "pattern": {"String": "a"}, "content": ""}, v["decoder"]]}),
            "decoder",
        ),
        (lambda v: v["model"]["vocab"].update({"<0x0A>": 400}), "SentencePiece's .* not supported"),
        (lambda v: v["model"].update(type="Unigram"), "of type Unigram, which is not supported"),
        (lambda v: v["model"]["vocab"].pop("a"), "no token for the byte 0x61"),
    ],
)  # fmt: skip
def test_steps_that_do_something_are_refused_there_too(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], reason: str
) -> None:
    with pytest.raises((TokenizerError, UnsupportedError), match=reason):
        general(tmp_path, edited(change))


def test_bytes_that_no_text_needs_may_be_missing_there(tmp_path: Path) -> None:
    alphabet = byte_alphabet()

    def drop(value: dict[str, Any]) -> None:
        for byte in (0x04, 0xC0, 0xF2):
            value["model"]["vocab"].pop(alphabet[byte])
        for token in value["added_tokens"]:  # a gap before them would move their ids
            value["model"]["vocab"][token["content"]] = token["id"]

    found = general(tmp_path, edited(drop))
    assert found.notes == (
        "tokenizer.json: no tokens for the bytes 0x04, 0xf2: a text with characters of them is refused",
    )
    with pytest.raises(TokenizerError, match="no token for the byte 0x04 and 2 more"):
        convert(folder_with(tmp_path, edited(drop)))
