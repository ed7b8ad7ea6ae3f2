"""What the commands say of a bundle's certificate: its figures, missed thresholds, golden tokens computed again."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from edge.bundle.bundle import Bundle
from edge.bundle.certificate import Golden, Noise, Spread
from edge.engine import probe
from edge.engine.boards import board, rates_of
from export.build import build
from export.certificate.document import machine, versions
from export.certificate.golden import record

Run = Callable[..., tuple[int, str, str]]
NOISE = Noise(Spread(1e-15, 1e-15, 1e-14, 90), Spread(3e-6, 1.3e-5, 2e-4, 1000))
FIGURES = {
    "format": 1, "level": "quick", "positions": 3000, "kl": {"mean": 0.0125}, "top1_agreement": 0.95,
    "sets": {"text": {"kl": {"mean": 0.02}}, "chat": {"kl": {"mean": 0.005}}}, "missed": [],
    "machine": {"processor": "Some CPU"}, "versions": {"onnxruntime": "1.2.3"},
}  # fmt: skip
MISSED = "mean KL divergence 0.0125 is 0.0025 over max_mean_kl 0.01"


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("EDGE_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr(probe, "measure", lambda: rates_of(board("pi5-8gb")))  # edge doctor takes seconds for it
    return tmp_path


@pytest.fixture(scope="module")
def golden(int8_bundle: Path) -> dict[str, object]:
    return asdict(Golden(1, record(Bundle.open(int8_bundle), lambda *_: None).prompts, NOISE))


def test_show_says_what_the_int8_cache_costs(run: Run, folder: Path, int8_bundle: Path) -> None:
    to_float32 = {"kl": {"mean": 0.0117, "p99": 0.1}, "top1_agreement": 0.94}
    run("models", "install", certified(int8_bundle, folder, int8_cache={"to_float32": to_float32}))
    name = Bundle.open(int8_bundle).manifest.id
    assert "int8 cache: KL 0.012 to float32" in run("models", "info", name)[1]
    shown = json.loads(run("models", "info", name, "--json")[1])["certificate"]
    assert shown["int8_cache"] == {"kl_mean": 0.0117, "kl_p99": 0.1, "top1_agreement": 0.94}


def test_certificate_without_it_says_nothing_of_the_int8_cache(run: Run, folder: Path, int8_bundle: Path) -> None:
    run("models", "install", certified(int8_bundle, folder))
    name = Bundle.open(int8_bundle).manifest.id
    assert "int8 cache:" not in run("models", "info", name)[1]
    assert json.loads(run("models", "info", name, "--json")[1])["certificate"]["int8_cache"] is None


def certified(bundle: Path, folder: Path, **more: object) -> str:
    """A copy of a bundle with a certificate."""
    shutil.copytree(bundle, folder / "made")
    (folder / "made/certificate.json").write_text(json.dumps({**FIGURES, **more}))
    return str(folder / "made")


def test_deep_verification_computes_the_golden_tokens(
    run: Run, folder: Path, int8_bundle: Path, golden: dict[str, object]
) -> None:
    made = certified(int8_bundle, folder, golden=golden)
    status, out, _ = run("models", "verify", made, "--deep")
    assert status == 0
    assert out.splitlines()[1].endswith("golden tokens of 4 prompts: the same tokens and the same logits as certified")
    assert "golden" not in run("models", "verify", made)[1]


def test_other_logits_than_certified_are_a_failure(
    run: Run, folder: Path, int8_bundle: Path, golden: dict[str, object]
) -> None:
    text = json.dumps(golden)
    other = json.loads(text)
    for step in other["prompts"][0]["steps"]:
        step["logits"] = [value + 0.5 * (n % 2) for n, value in enumerate(step["logits"])]
        step["log_total"] += 0.3
    made = certified(int8_bundle, folder, golden=other)
    status, out, err = run("models", "verify", made, "--deep")
    assert status == 1
    assert "logits are up to 0.5 off" in err
    assert "and more than a tenth of what quantization cost" in err
    assert err.rstrip().endswith("(certified on Some CPU with onnxruntime 1.2.3)")
    status, out, _ = run("doctor", "--model", made)
    assert status == 1
    assert [line.split()[0] for line in out.splitlines() if "golden" in line] == ["FAIL"]


def test_little_is_forgiven_to_other_kernels_and_nothing_to_the_same(
    run: Run, folder: Path, int8_bundle: Path, golden: dict[str, object]
) -> None:
    other = json.loads(json.dumps(golden))
    for prompt in other["prompts"]:
        for step in prompt["steps"]:
            step["logits"] = [value + 0.05 * (n % 2) for n, value in enumerate(step["logits"])]
            step["log_total"] += 0.001
    made = certified(int8_bundle, folder, golden=other)
    status, out, _ = run("models", "verify", made, "--deep")
    assert status == 0 and "and less than a tenth of what quantization cost" in out
    same = {**FIGURES, "machine": machine(), "versions": versions(), "golden": other}
    (folder / "made/certificate.json").write_text(json.dumps(same))
    status, _, err = run("models", "verify", made, "--deep")
    assert status == 1 and "should give the same logits: something is wrong" in err


def test_doctor_computes_the_golden_tokens(
    run: Run, folder: Path, int8_bundle: Path, golden: dict[str, object]
) -> None:
    status, out, _ = run("doctor", "--model", certified(int8_bundle, folder, golden=golden))
    assert (status, [line.split()[0] for line in out.splitlines() if " golden: " in line]) == (0, ["ok"])


def test_bundle_without_golden_tokens_says_so_and_is_well(run: Run, folder: Path, int8_bundle: Path) -> None:
    status, out, _ = run("doctor", "--model", str(int8_bundle))
    assert status == 0 and "the bundle has no certificate, so no golden tokens to compute again" in out
    status, out, _ = run("models", "verify", certified(int8_bundle, folder), "--deep")
    assert status == 0 and "the certificate has no golden tokens" in out


def test_certificate_that_is_no_certificate_is_a_failure(run: Run, folder: Path, int8_bundle: Path) -> None:
    made = certified(int8_bundle, folder, golden={"format": 1, "prompts": 3})
    status, _, err = run("models", "verify", made, "--deep")
    assert status == 1 and "the golden tokens cannot be computed" in err and "certificate.json: " in err
    status, out, err = run("models", "info", made)
    assert status == 0 and "certificate:           cannot be read: " in out


def test_info_shows_figures_and_what_is_missed(run: Run, folder: Path, int8_bundle: Path) -> None:
    made = certified(int8_bundle, folder, missed=[MISSED, "odd \x1b[31m words"])
    status, out, err = run("models", "info", made)
    assert status == 0
    expected = "quick, mean KL 0.013, text 0.02, chat 0.005, top-1 95.00%, 3000 positions, no golden tokens"
    assert f"certificate:           {expected}" in out
    assert f"misses a threshold of its recipe: {MISSED}\n" in err
    assert "\x1b" not in err and "odd [31m words" in err
    shown = json.loads(run("models", "info", made, "--json")[1])["certificate"]
    assert shown["missed"][0] == MISSED and shown["kl_mean_of"] == {"text": 0.02, "chat": 0.005}
    assert json.loads(run("models", "info", str(int8_bundle), "--json")[1])["certificate"] is None


def test_install_says_what_is_missed(run: Run, folder: Path, int8_bundle: Path) -> None:
    status, out, err = run("models", "install", certified(int8_bundle, folder, missed=[MISSED]))
    assert status == 0 and "is installed in" in out
    assert err == f"edge: {Bundle.open(int8_bundle).manifest.id} misses a threshold of its recipe: {MISSED}\n"


@pytest.mark.timeout(600)
def test_speech_bundle_has_golden_tokens(run: Run, folder: Path, whisper_checkpoint: Path) -> None:
    made = build(whisper_checkpoint, folder / "speech", recipe="int8", certificate="quick")
    status, out, err = run("models", "verify", str(made), "--deep")
    assert status == 0, err
    assert "golden tokens of 1 prompt: the same tokens and the same logits as certified" in out
    path = made / "certificate.json"
    document = json.loads(path.read_bytes())
    for step in document["golden"]["prompts"][0]["steps"]:
        step["logits"] = [value - 2 * (n % 2) for n, value in enumerate(step["logits"])]
    path.chmod(0o644)
    path.write_text(json.dumps(document))
    status, _, err = run("models", "verify", str(made), "--deep")
    assert status == 1 and "should give the same logits: something is wrong" in err
