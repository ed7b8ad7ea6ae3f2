"""The SDK before 2.0, still inside `reka-api`, against POST /chat and GET /models."""

import json
from pathlib import Path

import pytest
import reka.v2
import requests

from tests.conformance.conftest import Served, serving
from tests.conformance.test_reka_client import image_url

HOW = {"request_output_len": 8, "random_seed": 3, "runtime_top_k": 50, "runtime_top_p": 0.9, "stop_words": ["\0"]}


@pytest.fixture(autouse=True)
def reached(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reka.v2, "_SERVER", served.address)
    monkeypatch.setattr(reka.v2, "API_KEY", "local")


def test_a_question() -> None:
    turn = reka.v2.chat("How many?", model_name="reka-edge", **HOW)
    assert turn["type"] == "model" and isinstance(turn["text"], str) and set(turn) == {"type", "text"}
    assert turn == reka.v2.chat("How many?", model_name="reka-edge", **HOW)


def test_a_conversation() -> None:
    history = [{"type": "human", "text": "My name is John."}, {"type": "model", "text": "Hello."}]
    assert reka.v2.chat("My name?", conversation_history=history, model_name="reka-edge", **HOW)["type"] == "model"


def test_a_image_is_told_by_its_bytes(tmp_path: Path) -> None:
    import base64

    file = tmp_path / "picture"
    file.write_bytes(base64.b64decode(image_url().partition(",")[2]))
    with_image = reka.v2.chat("What?", media_filename=str(file), model_name="reka-edge", **HOW)
    assert with_image != reka.v2.chat("What?", model_name="reka-edge", **HOW)


@pytest.mark.parametrize(
    ("first", "kind"), [(b"%PDF-1.7", "pdf"), (b"\0\0\0\x18ftypmp42", "video"), (b"RIFF\0\0\0\0WAVE", "audio")]
)
def test_other_media_is_told_by_its_bytes_and_refused(first: bytes, kind: str, tmp_path: Path) -> None:
    file = tmp_path / "media"
    file.write_bytes(first + bytes(32))
    with pytest.raises(requests.HTTPError, match=rf"conversation_history\.0\.media_url: .*{kind}"):
        reka.v2.chat("What?", media_filename=str(file), model_name="reka-edge", **HOW)


def test_models() -> None:
    assert "reka-edge-random" in reka.v2.list_models()


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"length_penalty": 1.5}, 400, "length_penalty"),
        ({"retrieval_dataset": "mine"}, 400, "retrieval_dataset"),
        ({"runtime_top_k": 0}, 422, "runtime_top_k"),
        ({"random_seed": "x"}, 422, "random_seed"),
        ({"model_name": "reka-flash"}, 404, "--alias"),
    ],
)
def test_errors_name_the_fields_as_v0_does(fields: dict[str, object], status: int, words: str) -> None:
    with pytest.raises(requests.HTTPError, match=words) as caught:
        reka.v2.chat("How many?", **{"model_name": "reka-edge", **HOW, **fields})
    assert caught.value.response.status_code == status
    assert "detail" in json.loads(caught.value.response.text)


def test_the_default_model_of_the_old_sdk_can_be_an_alias(int8_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(int8_bundle, aliases={"reka-flash": "reka-edge"}, key="k") as served:
        monkeypatch.setattr(reka.v2, "_SERVER", served.address)
        monkeypatch.setattr(reka.v2, "API_KEY", "k")
        assert reka.v2.chat("How many?", length_penalty=1.0, **HOW)["type"] == "model"
