"""Texts are laid out as the device feeds them; which tokens are the assistant's; windows lose nothing."""

import json
from collections.abc import Hashable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge.bundle.bundle import Bundle
from edge.bundle.manifest import Manifest
from edge.chat.prompt import DecodedImage, Turn, pieces
from edge.engine.layout import lay_out
from edge.engine.tokenizer import Tokenizer
from edge.media.image import digest
from export.errors import TextsError
from export.texts.read import Entry, Text, read, shipped_calibration
from export.texts.scenes import numbered
from export.texts.sequences import MEDIA_ID, Sequence, sequences, supported

LARGE = 100_000  # positions: more than any text has
USER, ANSWER = {"role": "user", "content": "How are you?"}, {"role": "assistant", "content": "Well, thank you.\n"}
SCENE = {"type": "image_url", "image_url": "scene:7"}
CALL = {"role": "assistant", "tool_calls": [{"id": "1", "name": "add", "parameters": {"a": 1}}]}
OUTPUT = {"role": "tool_output", "content": [{"tool_call_id": "1", "output": "2"}]}


class Model:
    """The manifest and tokenizer of a bundle."""

    def __init__(self, path: Path) -> None:
        bundle = Bundle.open(path)
        self.manifest: Manifest = bundle.manifest
        self.tokenizer = Tokenizer.open(bundle)

    def sequences(self, entries: Iterable[Entry], window: int = LARGE) -> list[Sequence]:
        return list(sequences(entries, manifest=self.manifest, tokenizer=self.tokenizer, window=window))

    def spelled(self, ids: Iterable[int]) -> str:
        return self.tokenizer.decode(int(token) for token in ids if token != MEDIA_ID)

    def said(self, sequence: Sequence) -> list[str]:
        """What the assistant said, run by run."""
        edges = np.flatnonzero(np.diff(np.pad(sequence.assistant.astype(np.int8), 1)))
        return [self.spelled(sequence.ids[a:b]) for a, b in zip(edges[::2], edges[1::2], strict=True)]


@pytest.fixture(scope="module")
def model(fp32_bundle: Path) -> Model:
    """Sees images, has tools."""
    return Model(fp32_bundle)


@pytest.fixture(scope="module")
def flash(fp32_bundle: Path) -> Model:
    """The prompt format of Reka Flash: plain text alone."""
    made = Model(fp32_bundle)
    prompt = replace(made.manifest.prompt, format="flash", tools=None, stop_ids=(), stop_strings=("<sep>",))
    made.manifest = replace(made.manifest, family="llama", vision=None, prompt=prompt)
    return made


@pytest.fixture(scope="module")
def chatml(fp32_bundle: Path) -> Model:
    """ChatML: a role on the first line of each turn, its tokens those that the other format has."""
    made = Model(fp32_bundle)
    control = dict(made.manifest.prompt.control)
    start, end = control["<image>"], control["<sep>"]
    control |= {"<|im_start|>": start, "<|im_end|>": end}
    prompt = replace(
        made.manifest.prompt,
        format="chatml",
        tools=None,
        control=control,
        stop_ids=(end,),
        start_ids=(control["<video>"],),
    )
    made.manifest = replace(made.manifest, family="llama", vision=None, prompt=prompt)
    return made


def conversation(folder: Path, *messages: object, tools: object = None) -> list[Entry]:
    path = folder / "texts.jsonl"
    path.write_text(json.dumps({"messages": messages, **({} if tools is None else {"tools": tools})}))
    return read(path)


def keys(found: Iterable[Sequence]) -> list[Hashable]:
    return [key for sequence in found for key in sequence.positions.keys]


def test_running_text_is_its_tokens_alone(model: Model) -> None:
    (sequence,) = model.sequences([Text("The ferry left.\n", "here")])
    assert sequence.ids.tolist() == sequence.positions.keys == model.tokenizer.encode("The ferry left.\n")
    assert not sequence.assistant.any() and sequence.where == "here"


def test_a_conversation_is_what_the_device_feeds_for_it(model: Model, tmp_path: Path) -> None:
    entries = conversation(tmp_path, {"role": "system", "content": "Be brief."}, USER, ANSWER, USER)
    turns = [Turn("system", ("Be brief.",)), Turn("user", ("How are you?",))]
    turns += [Turn("assistant", ("Well, thank you.\n",)), Turn("user", ("How are you?",))]
    expected = lay_out(pieces(turns, model.manifest), model.tokenizer, limit=LARGE)
    assert keys(model.sequences(entries)) == expected.keys


def test_an_answer_that_comes_last_ends_with_the_end_of_its_turn(model: Model, tmp_path: Path) -> None:
    (sequence,) = model.sequences(conversation(tmp_path, USER, ANSWER))
    assert model.spelled(sequence.ids) == "human: How are you?<sep>assistant: Well, thank you.\n\n\n<sep>"
    assert sequence.ids[-1] in model.manifest.prompt.stop_ids


def test_the_assistants_tokens_are_its_answers_with_what_ends_them(model: Model, tmp_path: Path) -> None:
    (sequence,) = model.sequences(conversation(tmp_path, USER, ANSWER, USER, ANSWER, USER))
    assert model.said(sequence) == [" Well, thank you.\n\n\n<sep>"] * 2


def test_an_answer_may_come_first_and_two_may_follow_each_other(model: Model, tmp_path: Path) -> None:
    (sequence,) = model.sequences(conversation(tmp_path, ANSWER, USER, ANSWER, ANSWER))
    first, second = model.said(sequence)
    assert first == " Well, thank you.\n\n\n<sep>"
    assert second == " Well, thank you.\n\n\n<sep>assistant: Well, thank you.\n\n\n<sep>"


def test_calls_are_the_assistants_and_results_are_not(model: Model, tmp_path: Path) -> None:
    tools = [{"name": "add", "parameters": {"type": "object"}}]
    (sequence,) = model.sequences(conversation(tmp_path, USER, CALL, OUTPUT, ANSWER, tools=tools))
    call, answer = model.said(sequence)
    assert "<tool_call>" in call and '{"name": "add", "arguments": {"a": 1}}' in call and call.endswith("<sep>")
    assert "tool_response" not in call + answer and answer == " Well, thank you.\n\n\n<sep>"
    assert '"name": "add", "parameters"' in model.spelled(sequence.ids)


def test_plain_text_prompts_have_the_assistants_tokens_too(flash: Model, tmp_path: Path) -> None:
    (sequence,) = flash.sequences(conversation(tmp_path, USER, ANSWER, USER, ANSWER))
    first, second = flash.said(sequence)
    assert first.strip() == second.strip() == "Well, thank you.\n <sep>"
    assert flash.spelled(sequence.ids).rstrip().endswith("<sep>")


def test_chatml_prompts_have_the_assistants_tokens_too(chatml: Model, tmp_path: Path) -> None:
    (sequence,) = chatml.sequences(conversation(tmp_path, USER, ANSWER, USER, ANSWER))
    assert chatml.said(sequence) == ["Well, thank you.\n<sep>"] * 2
    assert chatml.spelled(sequence.ids).startswith("<video><image>user\nHow are you?<sep>\n<image>assistant\nWell,")
    assert chatml.spelled(sequence.ids).endswith("you.\n<sep>")


def test_running_text_begins_with_what_every_prompt_begins_with(chatml: Model) -> None:
    (sequence,) = chatml.sequences([Text("Rain.", "here")])
    assert chatml.spelled(sequence.ids) == "<video>Rain."


def test_images_keep_their_place_and_their_pixels(model: Model, tmp_path: Path) -> None:
    Image.fromarray(numbered(3)).save(tmp_path / "three.png")
    parts = [SCENE, {"type": "text", "text": "and"}, {"type": "image_url", "image_url": "three.png"}]
    (sequence,) = model.sequences(conversation(tmp_path, {"role": "user", "content": parts}, ANSWER))
    shown = [DecodedImage(numbered(number), digest(numbered(number))) for number in (7, 3)]
    turns = [Turn("user", (shown[0], "and", shown[1])), Turn("assistant", ("Well, thank you.\n",)), Turn("user")]
    expected = lay_out(pieces(turns, model.manifest), model.tokenizer, limit=LARGE)
    assert sequence.positions.keys == expected.keys[: len(sequence)]
    media = sequence.positions.media(0, len(sequence))
    assert [image.digest for image in media] == [image.digest for image in shown]
    assert int((sequence.ids == MEDIA_ID).sum()) == sum(image.n_tokens for image in media)
    assert not sequence.assistant[sequence.ids == MEDIA_ID].any()


def test_what_a_bundle_does_not_accept_is_left_out(model: Model, flash: Model, tmp_path: Path) -> None:
    plain = conversation(tmp_path, USER, ANSWER)
    seeing = conversation(tmp_path, {"role": "user", "content": [SCENE]}, ANSWER)
    calling = conversation(tmp_path, USER, CALL, OUTPUT)
    offered = conversation(tmp_path, USER, ANSWER, tools=[{"name": "add", "parameters": {"type": "object"}}])
    entries = [*seeing, *plain, *calling, *offered, Text("Rain.", "here")]
    assert supported(entries, flash.manifest) == [plain[0], entries[-1]]
    assert [sequence.where for sequence in flash.sequences(entries)] == [plain[0].where, "here"]
    assert supported(entries, model.manifest) == entries


@pytest.mark.parametrize("window", [20, 23, 50, 128])
def test_windows_together_are_the_whole(model: Model, window: int) -> None:
    entries = read(shipped_calibration())[:8]
    whole, cut = model.sequences(entries), model.sequences(entries, window)
    assert keys(cut) == keys(whole) and len(cut) > len(whole)
    assert max(map(len, cut)) <= window
    for name in ("ids", "assistant"):
        parts = [np.concatenate([getattr(s, name) for s in found]) for found in (whole, cut)]
        assert np.array_equal(*parts)
    assert all(len(s.positions) == len(s.ids) == len(s.assistant) for s in cut)
    images = [image.digest for s in whole for image in s.positions.media(0, len(s))]
    assert [image.digest for s in cut for image in s.positions.media(0, len(s))] == images and images


def test_windows_of_a_text_differ_by_one_position_at_most(model: Model) -> None:
    text = Text("The ferry left the island at six in the morning. " * 9, "here")
    n = len(model.tokenizer.encode(text.text))
    lengths = [len(sequence) for sequence in model.sequences([text], 40)]
    assert sum(lengths) == n and len(lengths) == -(-n // 40)
    assert max(lengths) - min(lengths) <= 1


def test_an_image_larger_than_a_window_is_refused(model: Model, tmp_path: Path) -> None:
    entries = conversation(tmp_path, {"role": "user", "content": [SCENE]}, ANSWER)
    with pytest.raises(TextsError, match=r"line 1: an image has \d+ positions, expected at most 2"):
        model.sequences(entries, 2)


def test_an_image_that_is_none_is_refused_with_its_line(model: Model, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"not an image")
    content = [{"type": "image_url", "image_url": "bad.png"}]
    with pytest.raises(TextsError, match="line 1: messages.0.content.0.image_url: "):
        model.sequences(conversation(tmp_path, {"role": "user", "content": content}))


def test_a_window_has_a_position_at_least(model: Model) -> None:
    with pytest.raises(ValueError, match="at least 1 position, got 0"):
        model.sequences([Text("Rain.", "here")], 0)
