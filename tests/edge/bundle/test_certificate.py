"""Certificates as the runtime reads them: old ones, whole ones, and files that nobody trusts."""

import copy
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from edge.bundle import certificate
from edge.bundle.certificate import Golden, GoldenImage, GoldenPiece, GoldenPrompt, GoldenStep, Noise, Spread
from edge.errors import BundleError
from tests.edge.fake_engine import manifest

ROOT = Path(__file__).parents[3]
VOCAB = 32
STEP = GoldenStep(3, (3, 1), (2.5, -1.0), 2.6)
IMAGE = GoldenPiece((), None, GoldenImage(384, 384, 4))
PIECES = (GoldenPiece((1, 2), None, None), IMAGE, GoldenPiece((4,), "a", None))
SPREAD = Spread(1e-6, 1e-5, 1e-4, 500)
GOLDEN = Golden(1, (GoldenPrompt(PIECES, (STEP, STEP)),), Noise(SPREAD, SPREAD))


def parsed(document: dict[str, object]) -> certificate.Certificate:
    return certificate.parse(json.dumps(document).encode(), manifest("made"))


def test_vocabulary_of_these_tests() -> None:
    assert manifest("made").text.vocab_size == VOCAB


def test_golden_tokens_come_back_as_they_were() -> None:
    assert parsed({"golden": asdict(GOLDEN)}).golden == GOLDEN


def test_certificate_of_an_older_exporter_is_read() -> None:
    data = (ROOT / "models/reka-edge-tiny/certificate.json").read_bytes()
    found = certificate.parse(data, manifest("made"))
    assert found.golden is None and found.missed == () and found.kinds == {}
    assert found.kl_mean == pytest.approx(0.000466, abs=1e-6)
    assert found.level == "full"


def test_keys_of_a_newer_exporter_are_passed_by() -> None:
    found = parsed({"sets": {"poems": {"kl": {"mean": 0.5}}, "odd": 3}, "new": [1], "missed": ["top-1 is low"]})
    assert found.kinds == {"poems": 0.5}
    assert found.missed == ("top-1 is low",)


def test_folder_without_certificate_has_none(tmp_path: Path) -> None:
    assert certificate.read(tmp_path, manifest("made")) is None


def changed(change: Callable[[dict[str, object]], object]) -> dict[str, object]:
    document = copy.deepcopy(asdict(GOLDEN))
    change(document)
    return {"golden": json.loads(json.dumps(document))}


def prompt(document: dict[str, object]) -> dict[str, object]:
    return document["prompts"][0]  # type: ignore[index]


def step(document: dict[str, object]) -> dict[str, object]:
    return prompt(document)["steps"][0]  # type: ignore[index]


def piece(document: dict[str, object]) -> dict[str, object]:
    return prompt(document)["pieces"][0]  # type: ignore[index]


def image(document: dict[str, object]) -> dict[str, object]:
    return prompt(document)["pieces"][1]["image"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda d: d.update(format=2), "golden.format: expected 1, got 2: update this runtime"),
        (lambda d: d.update(prompts=[]), "golden.prompts: expected 1 to 8, got 0"),
        (lambda d: d.update(prompts=d["prompts"] * 9), "golden.prompts: expected 1 to 8, got 9"),
        (lambda d: d.update(prompts=3), "golden.prompts: expected"),
        (lambda d: d.update(more=1), "unknown key golden.more"),
        (lambda d: d.pop("noise"), "missing key golden.noise"),
        (lambda d: d["noise"]["all"].update(kl_std=-1), "golden.noise.all: expected numbers of at least 0"),
        (lambda d: d["noise"]["golden"].update(kl_mean="0"), "golden.noise.golden.kl_mean: expected float"),
        (lambda d: prompt(d).update(steps=[]), "golden.prompts[0].steps: expected 1 to 128, got 0"),
        (lambda d: prompt(d).update(steps=prompt(d)["steps"] * 65), "steps: expected 1 to 128, got 130"),
        (lambda d: prompt(d).update(pieces=[]), "pieces: expected 1 to 4096 positions, got 0"),
        (lambda d: piece(d).update(ids=[VOCAB]), "pieces[0].ids: expected ids below 32"),
        (lambda d: piece(d).update(ids=[-1]), "pieces[0].ids: expected ids below 32"),
        (lambda d: piece(d).update(ids=[1] * 5000), "pieces: expected 1 to 4096 positions, got 5005"),
        (lambda d: piece(d).update(text="a" * 4001), "pieces[0]: expected ids, and at most 4000 characters"),
        (lambda d: piece(d).update(ids=[]), "pieces[0]: expected ids"),
        (lambda d: piece(d).update(ids=[True]), "pieces[0].ids[0]: expected int"),
        (lambda d: image(d).update(width_px=2049), "pieces[1].image: expected sides of 1 to 2048 px"),
        (lambda d: image(d).update(height_px=0), "pieces[1].image: expected sides of 1 to 2048 px"),
        (lambda d: image(d).update(n_tokens=0), "pieces[1].image: expected sides"),
        (lambda d: image(d).update(n_tokens=1 << 40), "pieces: expected 1 to 4096 positions"),
        (lambda d: step(d).update(token=VOCAB), "steps[0]: expected ids below 32"),
        (lambda d: step(d).update(ids=[1]), "steps[0]: expected 1 to 64 ids and as many logits"),
        (lambda d: step(d).update(ids=[1, 1]), "steps[0].ids: an id is given twice"),
        (lambda d: step(d).update(logits=[1e7, 0]), "steps[0]: expected logits of at most 1e+06"),
        (lambda d: step(d).update(log_total=2.0), "steps[0].log_total: expected no less than the largest logit"),
    ],
)  # fmt: skip
def test_golden_part_out_of_bounds_is_named(change: Callable[[dict[str, object]], object], problem: str) -> None:
    with pytest.raises(BundleError) as caught:
        parsed(changed(change))
    assert problem in str(caught.value)
    assert str(caught.value).startswith("certificate.json: ")


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[]", b"{", b'{"golden": {"format": 1, "format": 1}}', b'{"positions": NaN}', b'{"missed": 3}',
        b'{"missed": ["' + b"a" * 501 + b'"]}', b'{"missed": [' + b'"a",' * 32 + b'"a"]}', b'{"golden": 3}',
        b'{"a":' * 100_000, b'{"kl": {"mean": 1e999}}', b"\xff",
    ],
)  # fmt: skip
def test_file_that_is_no_certificate_is_an_error_that_names_it(data: bytes) -> None:
    with pytest.raises(BundleError, match="certificate.json: "):
        certificate.parse(data, manifest("made"))


def test_large_file_and_link_are_refused(tmp_path: Path) -> None:
    (tmp_path / "certificate.json").write_bytes(b" " * ((8 << 20) + 1))
    with pytest.raises(BundleError, match="expected at most"):
        certificate.read(tmp_path, manifest("made"))
    (tmp_path / "certificate.json").unlink()
    (tmp_path / "certificate.json").symlink_to("/etc/passwd")
    with pytest.raises(BundleError, match="certificate.json"):
        certificate.read(tmp_path, manifest("made"))
