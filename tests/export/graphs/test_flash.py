"""Bundles of Reka Flash 3 (LlamaForCausalLM) against transformers' own, loaded from the same files by their names."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from edge.bundle.bundle import Bundle
from edge.chat import next_logits
from edge.chat.prompt import Turn, pieces
from edge.engine.answer import Answer, Ends
from edge.engine.engine import Engine, Options
from edge.engine.handle import Handle, Progress
from edge.engine.layout import lay_out
from edge.engine.tokenizer import Tokenizer
from edge.errors import MediaError
from export.build import build
from export.checkpoint.random_checkpoint import write_checkpoint
from export.checkpoint.random_shapes import TINY_FLASH, Shape
from export.errors import CheckpointError, TokenizerError
from tests.conftest import BundleOf, CheckpointOf

TOLERANCE = 1e-3
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
FORMS = {
    "plain": TINY_FLASH,
    "tied": replace(TINY_FLASH, tied=True),
    "biases": replace(TINY_FLASH, attention_bias=True, mlp_bias=True),
    "rope-base": replace(TINY_FLASH, extra={"rope_theta": 500_000.0}),
    "rope-linear": replace(TINY_FLASH, extra={"rope_scaling": {"rope_type": "linear", "factor": 2.0}}),
    "rope-llama3": replace(TINY_FLASH, extra={"rope_scaling": LLAMA3}),
    "rope-yarn": replace(TINY_FLASH, extra={"rope_scaling": {"rope_type": "yarn", "factor": 4.0,
                                                            "original_max_position_embeddings": 64}}),
}  # fmt: skip
TALK = [
    Turn("system", ("Be brief.",)),
    Turn("user", ("What can you do? " * 12,)),
    Turn("assistant", ("<reasoning>what is asked?</reasoning>Many things.",)),
    Turn("user", ("Name one <sep> of them.",)),
]


def reference(checkpoint: Path) -> PreTrainedModel:
    """transformers' model, its weights found by the names in the files."""
    torch.set_num_threads(1)
    found, info = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    return found.eval()


@pytest.fixture(scope="module")
def bundle(checkpoint_of: CheckpointOf, bundle_of: BundleOf) -> Bundle:
    return Bundle.open(bundle_of(checkpoint_of(TINY_FLASH), "fp32"))


@pytest.mark.parametrize("form", FORMS)
def test_logits_are_those_of_transformers(form: str, checkpoint_of: CheckpointOf, bundle_of: BundleOf) -> None:
    checkpoint = checkpoint_of(FORMS[form])
    path = bundle_of(checkpoint, "fp32")
    opened = Bundle.open(path)
    prompt, answer = pieces(TALK, opened.manifest), [5, 6, 7, 8]
    with Engine.open(path) as engine:
        found = engine.score(prompt, answer)
    ids = [*lay_out(prompt, Tokenizer.open(opened), limit=1024).keys, *answer[:-1]]
    with torch.no_grad():
        expected = reference(checkpoint)(torch.tensor([ids])).logits[0, -len(answer) :].numpy()
    assert len(ids) > 80
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)


def test_manifest_says_what_flash_is(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert (manifest.family, manifest.vision, manifest.audio) == ("llama", None, None)
    assert (manifest.prompt.format, manifest.prompt.tools, manifest.prompt.stop_strings) == ("flash", None, ("<sep>",))
    assert manifest.prompt.stop_ids == (manifest.prompt.control["<|endoftext|>"],)
    assert "<sep>" not in manifest.prompt.control
    assert manifest.source.architecture == "LlamaForCausalLM"


def test_the_separator_is_plain_text(bundle: Bundle) -> None:
    positions = lay_out(pieces(TALK, bundle.manifest), Tokenizer.open(bundle), limit=1024)
    assert not set(positions.keys) & set(bundle.manifest.prompt.control.values())
    text = Tokenizer.open(bundle).decode(positions.keys)
    assert text.startswith("human: Be brief. What can you do? ")
    assert text.endswith(" <sep> assistant: Many things. <sep> human: Name one <sep> of them. <sep> assistant:")


def options(n: int) -> Options:
    return Options(
        max_tokens=n, temperature=0, top_p=1, top_k=1, frequency_penalty=0, presence_penalty=0, seed=None, stop=(),
        fresh=True,
    )  # fmt: skip


def test_an_answer_ends_at_the_string(bundle: Bundle) -> None:
    prompt, tokenizer = bundle.manifest.prompt, Tokenizer.open(bundle)
    handle = Handle(Progress("", 1, 0, None), lambda _handle: None)
    answer = Answer(handle, options(40), Ends(frozenset(prompt.stop_ids), prompt.stop_strings), tokenizer, 1)
    ids = tokenizer.encode(" It is < sep, or four. <sep> human: more")
    taken = [token for token in ids if answer.take(one_hot(token, bundle), n_free=100)]
    progress = handle.poll()
    assert progress is not None
    assert (progress.text, progress.finish_reason) == ("It is < sep, or four.", "stop")
    assert len(taken) < len(ids)


def one_hot(token: int, bundle: Bundle) -> np.ndarray:
    logits = np.zeros(bundle.manifest.text.vocab_size, np.float32)
    logits[token] = 1
    return logits


def test_a_conversation_is_answered_and_a_image_refused(bundle: Bundle) -> None:
    with Engine.open(bundle.path) as engine:
        (*_, last) = engine.stream(pieces(TALK, bundle.manifest), options(3))
        assert last.output_tokens == 3
        with pytest.raises(MediaError, match="text only"):
            engine.encode_image(np.zeros((8, 8, 3), np.uint8))


def test_int8_bundle_says_nearly_the_same(checkpoint_of: CheckpointOf, bundle_of: BundleOf) -> None:
    found = []
    for recipe in ("fp32", "int8"):
        with Engine.open(bundle_of(checkpoint_of(TINY_FLASH), recipe)) as engine:
            found.append(next_logits(engine, [{"role": "user", "content": "Who are you?"}]))
    assert 0.99 < np.corrcoef(found)[0, 1] < 1


def test_a_bundle_named_after_flash_answers_to_it(checkpoint_of: CheckpointOf, tmp_path: Path) -> None:
    path = build(checkpoint_of(TINY_FLASH), tmp_path / "b", recipe="fp32", id="reka-flash-3.1", certificate="off")
    assert Bundle.open(path).manifest.aliases == ("reka-flash",)


def altered(folder: Path, shape: Shape, changes: dict[str, object]) -> Path:
    checkpoint = write_checkpoint(folder / "reka-flash-3", shape)
    config = json.loads((checkpoint / "config.json").read_text()) | changes
    (checkpoint / "config.json").write_text(json.dumps(config))
    return checkpoint


def test_a_tied_configuration_needs_no_head_and_an_untied_one_does(tmp_path: Path) -> None:
    checkpoint = altered(tmp_path, replace(TINY_FLASH, tied=True), {"tie_word_embeddings": False})
    with pytest.raises(CheckpointError, match=r"text\.head: not in the checkpoint"):
        build(checkpoint, tmp_path / "out", recipe="fp32", certificate="off")


def test_a_tokenizer_without_an_end_of_text_is_refused(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "reka-flash-3", TINY_FLASH)
    text = (checkpoint / "tokenizer.json").read_text().replace("<|endoftext|>", "<|end|>")
    (checkpoint / "tokenizer.json").write_text(text)
    with pytest.raises(TokenizerError, match=r"added_tokens lack <\|endoftext\|>: the prompt needs it"):
        build(checkpoint, tmp_path / "out", recipe="fp32", certificate="off")
