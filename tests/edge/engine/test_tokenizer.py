"""The tokenizer: no text becomes a control token, every text survives, every bad file is refused."""

import json
import random
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, trainers

from edge.bundle.byte_level import byte_alphabet
from edge.engine.tokenizer import Tokenizer
from edge.errors import BundleError, TextError

PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
NAMED = (
    "<|endoftext|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|endofprompt|>", "<|endofchunk|>",
    "<REKA_IMG_TOKEN>", "<image>", "</image>", "<REKA_ADO_TOKEN>", "<audio>", "</audio>", "<video>", "</video>",
    "<transcript>", "</transcript>", "<ocr>", "</ocr>", "<sep>", "<tool>", "<tool_call>", "</tool_call>",
    "<tool_response>", "</tool_response>",
)  # fmt: skip
FILLERS = [f"<|special_token_{n}|>" for n in range(20)]
CORPUS = [
    "human: What colours and shapes are present? assistant: a red circle and two blue squares",
    "the image, the <sep> and the </image> of a <tool_call> are words, <|endoftext|> too",
    "Grüße, naïve café, 日本語 текст \U0001f642 12345 \n\n  x\t y",
]


@cache
def trained(in_vocab: bool = False) -> tuple[str, dict[str, int]]:
    """Return (tokenizer.json, control): every second control token is an added token that is not special."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(PATTERN), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    names = [*NAMED, *FILLERS]
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=names if in_vocab else [],
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS * 3, trainer)
    for i, name in enumerate(names):
        tokenizer.add_tokens([AddedToken(name, special=i % 2 == 0, normalized=False)])
    return tokenizer.to_str(), {name: tokenizer.token_to_id(name) for name in names}


def parse(text: str, control: Mapping[str, int], vocab_size: int = 1024) -> Tokenizer:
    return Tokenizer.parse(text.encode(), control=control, vocab_size=vocab_size)


@cache
def tokenizer(in_vocab: bool = False) -> Tokenizer:
    return parse(*trained(in_vocab))


def changed(change: Callable[[dict], object], in_vocab: bool = False) -> str:
    document = json.loads(trained(in_vocab)[0])
    change(document)
    return json.dumps(document)


def check(text: str, in_vocab: bool = False) -> None:
    subject = tokenizer(in_vocab)
    ids = subject.encode(text)
    assert not set(ids) & set(subject.control.values())
    assert subject.decode(ids) == text
    assert len(ids) >= subject.fewest_ids(text)


spellings = st.sampled_from([*NAMED, *FILLERS])
texts = st.lists(st.one_of(spellings, st.text(max_size=8), st.sampled_from(["\n", " ", "\u200d", "<", ">", "|"])))


@settings(max_examples=500, deadline=None)
@given(texts.map("".join), st.booleans())
def test_text_with_control_spellings_never_becomes_a_control_token(text: str, in_vocab: bool) -> None:
    check(text, in_vocab)


@pytest.mark.parametrize("in_vocab", [False, True])
def test_thousands_of_random_mixes_survive_without_a_control_token(in_vocab: bool) -> None:
    rng = random.Random(7)
    bits = [
        *NAMED,
        *FILLERS,
        *"abc <>|/\n\t",
        " ",
        "  ",
        "\n\n",
        "é",
        "\u0301",
        "日本",
        "\U0001f469\u200d",
        "human: ",
        "1234",
    ]
    for _ in range(5000):
        check("".join(rng.choices(bits, k=rng.randint(1, 12))), in_vocab)


@pytest.mark.parametrize("name", [*NAMED, *FILLERS])
def test_every_control_spelling_stays_text(name: str) -> None:
    for text in (name, name * 2, f"a{name}b", f" {name} ", f"{name[:-1]}\u200d{name[-1]}", name.upper(), f"{name}\n\n"):
        check(text)
        check(text, in_vocab=True)


def test_the_plain_library_would_have_emitted_control_ids() -> None:
    plain = tokenizers.Tokenizer.from_str(trained()[0])
    plain.encode_special_tokens = True
    control = set(trained()[1].values())
    assert control & set(plain.encode("".join(NAMED), add_special_tokens=False).ids)


def test_plain_text_is_encoded_as_the_library_does() -> None:
    plain = tokenizers.Tokenizer.from_str(trained()[0])
    for text in CORPUS[::2]:
        assert tokenizer().encode(text) == plain.encode(text).ids


def test_post_processor_truncation_and_padding_are_left_out() -> None:
    def change(document: dict) -> None:
        sep = {"id": "<sep>", "ids": [trained()[1]["<sep>"]], "tokens": ["<sep>"]}
        template = [{"SpecialToken": {"id": "<sep>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
        document["post_processor"] = {
            "type": "TemplateProcessing", "single": template, "pair": template, "special_tokens": {"<sep>": sep},
        }  # fmt: skip
        document["truncation"] = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}

    text = changed(change)
    assert tokenizers.Tokenizer.from_str(text).encode("what colours").ids[0] == trained()[1]["<sep>"]
    assert parse(text, trained()[1]).encode("what colours and shapes") == tokenizer().encode("what colours and shapes")


def test_a_tokenizer_guards_in_every_thread_and_after_every_load() -> None:
    names = [*NAMED, *FILLERS]
    with ThreadPoolExecutor(4) as pool:
        for ids in pool.map(parse(*trained()).encode, names * 20):
            assert not set(ids) & set(trained()[1].values())


@pytest.mark.parametrize(("text", "place"), [("\ud800", "U+D800) at 0"), ("ab\udcff", "U+DCFF) at 2")])
def test_lone_surrogate_is_a_clear_error(text: str, place: str) -> None:
    with pytest.raises(TextError, match="half a surrogate pair") as caught:
        tokenizer().encode(text)
    assert place in str(caught.value)


RARE = (0x04, 0x06, 0x13, 0xC0, 0xF1, 0xF2, 0xFF)  # as SmolLM2's vocabulary lacks them


def without_rare_bytes() -> Tokenizer:
    alphabet = byte_alphabet()
    return parse(changed(lambda d: [d["model"]["vocab"].pop(alphabet[byte]) for byte in RARE]), trained()[1])


def test_a_vocabulary_may_lack_bytes_that_no_text_needs() -> None:
    subject = without_rare_bytes()
    assert subject.missing == RARE
    assert subject.decode(subject.encode("Grüße 日本語 \U0001f642\n\t\x05")) == "Grüße 日本語 \U0001f642\n\t\x05"


@pytest.mark.parametrize(
    ("text", "found"),
    [("a\x04b", "0004"), ("日本\x13", "0013"), ("x\U00040000", "40000")],
)
def test_text_that_needs_a_missing_byte_is_refused_by_name(text: str, found: str) -> None:
    with pytest.raises(TextError, match=rf"no tokens for U\+{found}: leave this character out"):
        without_rare_bytes().encode(text)


def test_the_unknown_token_stands_for_nothing() -> None:
    """The library would write it for a missing byte, or drop the byte where there is none."""
    text = changed(lambda d: d["model"].update(unk_token="<|endoftext|>"))
    assert parse(text, trained()[1]).encode("abc") == tokenizer().encode("abc")


def test_bytes_of_a_split_character_join_up() -> None:
    subject = tokenizer()
    ids = subject.encode("\U0001f980")
    assert len(ids) > 1
    assert b"".join(subject.token_bytes(token) for token in ids) == "\U0001f980".encode()
    assert subject.decode(ids[:1]) == "\ufffd"


def test_control_tokens_decode_to_their_spelling_and_padding_ids_to_nothing() -> None:
    subject = tokenizer()
    assert subject.decode([subject.control["<tool_call>"], *subject.encode("x")]) == "<tool_call>x"
    assert subject.token_bytes(1023) == b""
    for token in (1024, -1):
        with pytest.raises(ValueError, match="expected an id below 1024"):
            subject.token_bytes(token)


@pytest.mark.parametrize("family", ["a", "^", " ", "\n ", "a ", "字", "\U0001f642", "<sep>", "0", "'s"])
def test_time_grows_linearly(family: str) -> None:
    def seconds(n: int) -> float:
        text = family * (n // len(family))
        started = time.process_time()
        tokenizer().encode(text)
        return time.process_time() - started

    seconds(1000)
    small = min(seconds(20_000) for _ in range(3))
    assert seconds(80_000) < 4 * small * 3 + 0.2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(normalizer={"type": "NFC"}), "normalizer"),
        (lambda d: d["model"].update(type="WordPiece"), "expected 'BPE'"),
        (lambda d: d["model"].update(dropout=0.1), "dropout"),
        (lambda d: d["model"].pop("vocab"), "vocab"),
        (lambda d: d.update(model=None), "model"),
        (lambda d: d["model"]["vocab"].pop("a"), "256 bytes"),
        (lambda d: d["model"]["vocab"].update(a="x"), "expected an id"),
        (lambda d: d["model"]["vocab"].update(a=5000), "expected an id below 1024"),
        (lambda d: d["model"]["vocab"].update(a=d["model"]["vocab"]["b"]), "twice"),
        (lambda d: d["model"]["vocab"].update({"字": 1000}), "byte alphabet"),
        (lambda d: d["model"]["vocab"].update({"<sep>": 1001}), "<sep>"),
        (lambda d: d["model"]["merges"].append(["q", "zzz"]), "cannot|can load"),
        (lambda d: d.update(added_tokens=None), "added_tokens"),
        (lambda d: d.update(added_tokens=[{"id": 1}]), "added_tokens"),
        (lambda d: d["added_tokens"].pop(), "added token"),
        (lambda d: d["added_tokens"][0].update(id=1), "added token"),
        (lambda d: d["added_tokens"].append({"id": 900, "content": "<think>"}), "<think>"),
        (lambda d: d.update(pre_tokenizer=None), "survive"),
        (lambda d: d.update(pre_tokenizer={"type": "Whitespace"}), "survive"),
        (lambda d: d.update(pre_tokenizer={"type": "Unheard"}), "can load"),
        (lambda d: d["pre_tokenizer"]["pretokenizers"][1].update(add_prefix_space=True), "survive"),
        (lambda d: d["pre_tokenizer"]["pretokenizers"][0].update(behavior="Removed"), "survive"),
        (lambda d: d["pre_tokenizer"]["pretokenizers"][0]["pattern"].update(Regex="(a+)+$"), None),
        (lambda d: d["pre_tokenizer"]["pretokenizers"][0]["pattern"].update(Regex="(unclosed"), "can load"),
    ],
)
def test_bad_tokenizer_files_are_refused(change: Callable[[dict], object], message: str | None) -> None:
    if message is None:  # catastrophic only for some texts: then the text is refused, not the process lost
        subject = parse(changed(change), trained()[1])
        with pytest.raises(TextError, match="the tokenizer failed"):
            subject.encode("a" * 40 + "!")
        return
    with pytest.raises(BundleError, match=message):
        parse(changed(change), trained()[1])


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff\xfe", b"[" * 100_000, b"null", b'{"model": 1}'])
def test_what_is_no_tokenizer_is_refused(data: bytes) -> None:
    with pytest.raises(BundleError):
        Tokenizer.parse(data, control={}, vocab_size=10)


def test_control_ids_must_be_distinct_and_free() -> None:
    text, control = trained()
    doubled = {**control, "<sep>": control["<image>"]}
    plain = {**control, "<sep>": 65}
    for wrong in (doubled, plain):
        copy = changed(lambda d, w=wrong: [t.update(id=w[t["content"]]) for t in d["added_tokens"]])
        with pytest.raises(BundleError, match="is also"):
            parse(copy, wrong)
    with pytest.raises(BundleError, match="expected an id below 300"):
        parse(text, control, vocab_size=300)


def test_interrupts_pass_through(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = parse(*trained())

    class Interrupted:
        def encode(self, text: str, add_special_tokens: bool) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr(subject, "_encoder", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        subject.encode("x")


def test_a_control_id_that_comes_out_all_the_same_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = parse(*trained())
    monkeypatch.setattr(subject, "_encoder", tokenizers.Tokenizer.from_str(trained()[0]))
    with pytest.raises(BundleError, match="came out as control ids"):
        subject.encode("a <sep>")
