"""Certificates: old ones are read, wrong ones are named."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from export.errors import ReportError
from export.report.certificate import MAX_POSITIONS, MAX_SETS, Certificate, parse, read
from tests.export.report import made


def parsed(document: dict[str, Any]) -> Certificate:
    return parse(json.dumps(document).encode(), file="certificate.json")


def test_every_figure_is_read() -> None:
    found = parsed(made.certificate("a", 0.25))
    assert (found.kl.mean, found.kl.p99, found.top1, found.positions) == (0.25, 2.0, 0.9, 800)
    assert (found.perplexity.bundle, found.perplexity.reference) == (14.25, 13.5)
    assert found.prefill_decode_kl == pytest.approx(0.25 / 12)
    assert found.int8_cache_kl == pytest.approx(0.25 / 5)
    assert [one.name for one in found.sets] == ["text", "chat"]
    assert (
        found.sets[0].kl_positions == tuple(sorted(found.sets[0].kl_positions))
        and len(found.sets[0].kl_positions) == 400
    )
    assert found.machine == "Some CPU, x86_64, Linux, 2 cores"
    assert found.versions == "edge 0.1.0, onnxruntime 1.32.0"
    assert found.thresholds == {"max_mean_kl": 0.5}
    assert (found.evaluation, found.evaluation_sha256) == ("evaluation.jsonl", "ab" * 32)


def test_a_certificate_of_an_older_version_is_read() -> None:
    new = {
        "sets",
        "kl_positions",
        "perplexity",
        "prefill_decode",
        "int8_cache",
        "evaluation",
        "thresholds",
        "missed",
        "machine",
    }
    old = {key: value for key, value in made.certificate("a", 0.25).items() if key not in new}
    found = parsed(old)
    assert (found.kl.mean, found.sets, found.perplexity.bundle, found.prefill_decode_kl, found.int8_cache_kl) == (
        0.25,
        (),
        None,
        None,
        None,
    )
    assert parsed({}).kl.mean is None


def test_null_is_as_good_as_no_key() -> None:
    found = parsed(dict.fromkeys(made.certificate("a", 0.25), None))
    assert found == parsed({})


def test_positions_of_a_set_without_figures_are_read() -> None:
    found = parsed({"kl_positions": [{"set": "images", "kl": [0.5, 0.25]}]})
    assert (found.sets[0].name, found.sets[0].kl_positions, found.sets[0].kl.mean) == ("images", (0.25, 0.5), None)


def test_cosines_of_images_and_of_a_speech_encoder_are_read() -> None:
    found = parsed(
        {"image_cosine": {"mean": 0.99, "min": 0.9, "rows": 4}, "encoder_cosine": {"mean": 1.0, "min": None}}
    )
    assert found.cosines == (("image embeddings", 0.99, 0.9), ("encoder rows", 1.0, None))


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"kl": 0.5}, "kl: expected an object, got 0.5"),
        ({"kl": {"mean": "0.5"}}, "kl.mean: expected a number of at least 0, got '0.5'"),
        ({"kl": {"mean": -0.5}}, "kl.mean: expected a number of at least 0, got -0.5"),
        ({"kl": {"mean": True}}, "kl.mean: expected a number"),
        ({"top1_agreement": 1.5}, "top1_agreement: expected a number from 0 to 1, got 1.5"),
        ({"positions": 2.5}, "positions: expected a whole number"),
        ({"level": ["quick"]}, "level: expected a string"),
        ({"missed": "all"}, "missed: expected a list"),
        ({"missed": [1]}, "missed: expected a list of strings"),
        ({"sets": []}, "sets: expected an object"),
        ({"sets": {"text": {"kl": []}}}, "sets.text.kl: expected an object"),
        ({"sets": {str(index): {} for index in range(MAX_SETS + 1)}}, "sets: expected at most"),
        ({"kl_positions": {"text": []}}, "kl_positions: expected a list"),
        ({"kl_positions": [[0.5]]}, "kl_positions: expected a list of objects"),
        ({"kl_positions": [{"set": "text", "kl": [0.5, None]}]}, "kl_positions[0].kl: expected a number"),
        ({"kl_positions": [{"set": "text", "kl": [0] * (MAX_POSITIONS + 1)}]}, "kl_positions[0].kl: expected at most"),
        ({"kl_positions": [{}] * (MAX_SETS + 1)}, "kl_positions: expected at most"),
        ({"machine": {"processor": {}}}, "machine.processor: expected a string"),
        ({"thresholds": {"max_mean_kl": "low"}}, "thresholds.max_mean_kl: expected a number"),
        ({"image_cosine": {"mean": 2}}, "image_cosine.mean: expected a number"),
    ],
)
def test_a_value_of_another_kind_is_named(changed: dict[str, Any], key: str) -> None:
    with pytest.raises(ReportError) as error:
        parsed({**made.certificate("a", 0.25), **changed})
    assert f"certificate.json: {key}" in str(error.value)


@pytest.mark.parametrize(
    "data", [b"[]", b"{", b"\xff", b'{"kl": NaN}', b'{"a": 1, "a": 2}', b"[" * 100_000, b'{"positions": 1e999}']
)
def test_what_is_no_json_object_is_refused(data: bytes) -> None:
    with pytest.raises(ReportError, match=r"certificate\.json: "):
        parse(data, file="certificate.json")


def test_a_bundle_without_certificate_has_none(tmp_path: Path) -> None:
    assert read(tmp_path) is None


def test_links_pipes_and_huge_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "certificate.json"
    (tmp_path / "elsewhere.json").write_text("{}")
    path.symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(ReportError, match="cannot be read"):
        read(tmp_path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ReportError, match="not a regular file"):
        read(tmp_path)
    path.unlink()
    path.write_bytes(b" " * ((8 << 20) + 1))
    with pytest.raises(ReportError, match="expected at most"):
        read(tmp_path)
