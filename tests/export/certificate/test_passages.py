"""What is scored of an evaluation file, and that its figures are the plain arithmetic."""

import json
from pathlib import Path

import numpy as np
import pytest

from edge.bundle.bundle import Bundle
from edge.engine.engine import Engine
from edge.engine.pieces import Control
from edge.engine.tokenizer import Tokenizer
from export.certificate import said
from export.certificate.compare import NOT_GIVEN
from export.certificate.evaluation import load
from export.certificate.extent import EXTENTS, Extent
from export.certificate.measure import Measured, measure
from export.certificate.passages import WARM_UP, Passages, limited
from export.checkpoint.checkpoint import Checkpoint
from export.checkpoint.names import Weights
from export.errors import TextsError
from export.reference import model as reference

STORY = "The ferry left at six, and nobody on the pier had seen the captain. " * 6
SAID = ("It rains.", "In the north, yes.")
CHAT = {"messages": [
    {"role": "user", "content": "How is the weather?"}, {"role": "assistant", "content": SAID[0]},
    {"role": "user", "content": "Everywhere?"}, {"role": "assistant", "content": SAID[1]},
]}  # fmt: skip
SCENE = {"messages": [
    {"role": "user", "content": [{"type": "image_url", "image_url": "scene:3"}, {"type": "text", "text": "And this?"}]},
    {"role": "assistant", "content": "A red circle."},
]}  # fmt: skip
ASKED = {"messages": [{"role": "user", "content": "What is left to say?"}]}


def written(folder: Path, *entries: dict[str, object]) -> Path:
    path = folder / "mine.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


def passages(path: Path, bundle: Path) -> tuple[Passages, Tokenizer]:
    opened = Bundle.open(bundle)
    tokenizer = Tokenizer.open(opened)
    return Passages(load(path).entries, opened.manifest, tokenizer), tokenizer


def test_windows_of_all_texts_take_turns(tmp_path: Path, int8_bundle: Path) -> None:
    path = written(tmp_path, {"text": STORY}, CHAT, {"text": "Another text, " * 12}, {"text": "Short."})
    found, tokenizer = passages(path, int8_bundle)
    windows = list(found.windows(size=64))
    texts = [tokenizer.decode([*window.positions.keys, window.targets[-1]]) for window in windows]
    assert texts[0].startswith("The ferry") and texts[1].startswith("Another")
    for window in windows:
        keys = window.positions.keys
        assert window.kind == "text" and len(keys) <= 63
        assert window.scored == tuple(range(WARM_UP - 1, len(keys)))
        assert window.targets[:-1] == tuple(keys[WARM_UP:])


def test_what_the_assistant_says_is_scored(tmp_path: Path, int8_bundle: Path) -> None:
    found, tokenizer = passages(written(tmp_path, CHAT, SCENE), int8_bundle)
    chat, image = found.conversations(size=500)
    assert (chat.kind, image.kind) == ("chat", "images")
    text = tokenizer.decode(chat.targets)
    assert all(words in text for words in SAID)
    assert "weather" not in text and "Everywhere" not in text
    keys = chat.positions.keys
    assert all(keys[at + 1] == target for at, target in zip(chat.scored[:-1], chat.targets[:-1], strict=True))
    assert "A red circle." in tokenizer.decode(image.targets)


def test_conversation_that_ends_with_a_question_is_a_prompt(tmp_path: Path, int8_bundle: Path) -> None:
    found, tokenizer = passages(written(tmp_path, CHAT, ASKED), int8_bundle)
    (prompt,) = found.questions(size=200)
    assert tokenizer.decode(prompt.keys).endswith("assistant:")
    assert list(found.questions(size=5)) == []
    assert [passage.kind for passage in found.conversations(size=500)] == ["chat"]


def test_images_are_left_out_without_a_tower(tmp_path: Path, text_bundle: Path) -> None:
    found, _ = passages(written(tmp_path, SCENE, CHAT), text_bundle)
    assert [passage.kind for passage in found.conversations(size=500)] == ["chat"]


def test_entry_that_the_bundle_cannot_read_is_named_and_left_out(tmp_path: Path, int8_bundle: Path) -> None:
    found, _ = passages(written(tmp_path, SCENE, CHAT), int8_bundle)
    assert {passage.kind for passage in found.conversations(size=3)} == {"chat"}
    (reason,) = found.skipped
    assert "mine.jsonl, line 1: an image has " in reason


def test_last_passage_is_cut_to_the_limit(tmp_path: Path, int8_bundle: Path) -> None:
    found, _ = passages(written(tmp_path, {"text": STORY}, {"text": STORY}), int8_bundle)
    cut = list(limited(found.windows(size=64), {"text": 60}))
    assert len(cut[0].scored) < 60
    assert sum(len(passage.scored) for passage in cut) == 60
    assert all(len(passage.positions) == passage.scored[-1] + 1 for passage in cut)


def test_text_file_is_measured(tmp_path: Path, int8_bundle: Path) -> None:
    (tmp_path / "mine.txt").write_text(STORY)
    found, _ = passages(tmp_path / "mine.txt", int8_bundle)
    assert sum(len(window.scored) for window in found.windows(size=64)) > 50


def test_file_of_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text(" \n")
    with pytest.raises(TextsError, match="mine.txt: text: is empty"):
        load(tmp_path / "mine.txt")


def certified(bundle: Path, checkpoint: Path, path: Path, scratch: Path, patch: pytest.MonkeyPatch) -> Measured:
    extent = Extent(answers=30, text=90, chat=60, images=60, window=64, stepped_windows=2)
    patch.setattr(said, "EXTENTS", {**EXTENTS, "quick": extent})
    scratch.mkdir()
    weights = Weights(Checkpoint.open(checkpoint))
    return measure(
        Bundle.open(bundle), weights, evaluation=load(path), level="quick", scratch=scratch, report=lambda *_: None
    )[0]


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


@pytest.mark.parametrize("recipe", ["int8", "int4"])
def test_figures_of_running_text_are_the_plain_arithmetic(
    recipe: str, request: pytest.FixtureRequest, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = request.getfixturevalue(f"{recipe}_bundle")
    path = written(tmp_path, {"text": STORY}, CHAT)
    found = certified(bundle, tiny_checkpoint, path, tmp_path / "scratch", monkeypatch)
    weights, text = Weights(Checkpoint.open(tiny_checkpoint)), Checkpoint.open(tiny_checkpoint).config.text
    kls, losses = [], []
    made, _ = passages(path, bundle)
    with Engine.open(bundle) as engine:
        for window in limited(made.windows(size=64), {"text": 90}):
            ids = [int(key) for key in window.positions.keys]
            logits = engine.score([Control(tuple(ids[:1]))], [*ids[1:], window.targets[-1]])
            states = reference.hidden_states(weights, text, [reference.embeds(weights, ids)], progress=lambda *_: None)[
                0
            ]
            expected = np.concatenate([run for _, run in reference.logits(weights, text, states)], axis=1)
            q, p = (log_softmax(each[list(window.scored)]) for each in (logits, expected))
            kls.append((np.exp(p) * (p - q)).sum(1))
            losses.append(-q[np.arange(len(q)), list(window.targets)])
    text_scores = found.scores.select(found.kinds["text"])
    np.testing.assert_allclose(text_scores.kl, np.concatenate(kls), rtol=1e-4, atol=1e-9)
    perplexity = text_scores.perplexity()
    assert perplexity is not None
    assert perplexity.bundle == pytest.approx(np.exp(np.concatenate(losses).mean()), rel=1e-6)


def test_own_answers_have_no_perplexity_and_are_scored_by_steps_and_by_reading(
    tiny_checkpoint: Path, int8_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = certified(int8_bundle, tiny_checkpoint, written(tmp_path, ASKED), tmp_path / "scratch", monkeypatch)
    assert found.n_windows == found.n_conversations == 0
    assert found.scores.perplexity() is None
    assert NOT_GIVEN not in found.kinds
    n_answered = len(found.scores.kl)
    assert len(found.prefill_decode.kl) == n_answered - found.n_prompts  # the first token of each is read both times
    assert 0 < found.prefill_decode.kl.mean() < 0.1 * found.scores.kl.mean()
