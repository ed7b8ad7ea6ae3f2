"""What is known of several bundles: names, sizes, and which of them no other one beats."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edge.speech.voice_files import stage
from export.errors import ReportError
from export.report import columns, subject
from tests.edge.speech.made_voices import write_piper
from tests.export.report import made


def labels(folder: Path, *names: str) -> list[str]:
    return [one.label for one in subject.read([made.bundle(folder, name) for name in names])]


def test_the_manifest_and_the_certificate_are_enough(fp32_bundle: Path, tmp_path: Path) -> None:
    shutil.copy(fp32_bundle / "manifest.json", tmp_path)
    (found,) = subject.read([tmp_path])
    assert found.certificate is None and found.kl is None
    assert found.n_bytes == sum(path.stat().st_size for path in fp32_bundle.iterdir() if path.name != "manifest.json")


def test_bits_per_weight_of_float32_are_32(fp32_bundle: Path, int8_bundle: Path) -> None:
    exact, quantized = subject.read([fp32_bundle, int8_bundle])
    assert exact.bits_per_weight == pytest.approx(32, rel=0.005)
    assert quantized.bits_per_weight is not None and 8 < quantized.bits_per_weight < 10
    assert exact.is_exact and not quantized.is_exact


def test_rotary_tables_are_no_weights() -> None:
    (tiny,) = subject.read([Path(__file__).parents[3] / "models" / "reka-edge-tiny"])
    assert tiny.bits_per_weight == pytest.approx(8.1, abs=0.1)  # int8, a quarter of each head rotated


def test_a_table_that_the_head_shares_is_counted_once(tmp_path: Path) -> None:
    def bits(name: str, head_error: float) -> float:
        found = {"decoder.embed": 0.0069, "decoder.head": head_error}
        tensors = {path: {"scheme": "int8-block32", "error": error} for path, error in found.items()}
        (one,) = subject.read([made.bundle(tmp_path, name, tensors=tensors)])
        return one.bits_per_weight or 0.0

    assert bits("shared", 0.0069) > bits("apart", 0.0071)


def test_labels_leave_out_what_all_ids_begin_with(tmp_path: Path) -> None:
    assert labels(tmp_path / "a", "smol-int8", "smol-int4-mixed", "smol-int4") == ["int8", "int4-mixed", "int4"]
    assert labels(tmp_path / "b", "smol", "smol-int4") == ["smol", "smol-int4"]
    assert labels(tmp_path / "c", "smol-int8") == ["smol-int8"]
    assert labels(tmp_path / "d", "one-int8", "two-int8") == ["one-int8", "two-int8"]


def test_bundles_of_one_id_are_told_apart_by_folder_and_by_number(tmp_path: Path) -> None:
    one, two = made.bundle(tmp_path / "x", "same"), made.bundle(tmp_path / "y", "same")
    assert [each.label for each in subject.read([one, two])] == ["same (1)", "same (2)"]
    other = two.rename(tmp_path / "y" / "other")
    assert [each.label for each in subject.read([one, other])] == ["same", "other"]


def test_long_labels_are_cut_in_the_middle(tmp_path: Path) -> None:
    (label,) = labels(tmp_path, "a" * 60 + "-int4")
    assert len(label) <= 28 and label.endswith("-int4") and "…" in label


def test_a_bundle_leads_unless_another_is_smaller_and_closer(tmp_path: Path) -> None:
    sizes = {"a": (100, 0.5), "b": (200, 0.1), "c": (200, 0.2), "d": (300, 0.1), "e": (150, 0.6), "f": (200, 0.1)}
    paths = [made.bundle(tmp_path, name, n_bytes=size, kl=kl) for name, (size, kl) in sizes.items()]
    leading = {one.manifest.id for one in subject.read(paths) if one.leads}
    assert leading == {"a", "b", "f"}


@pytest.mark.parametrize("n", [0, subject.MAX_BUNDLES + 1])
def test_how_many_bundles_there_may_be(n: int, tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=f"expected 1 to {subject.MAX_BUNDLES} bundles, got {n}"):
        subject.read([tmp_path] * n)


def test_what_is_no_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"not a bundle: manifest\.json cannot be read"):
        subject.read([tmp_path])
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(ReportError, match="format: expected 1"):
        subject.read([tmp_path])


def test_the_table_shows_a_column_only_where_there_are_figures(tmp_path: Path) -> None:
    paths = [made.bundle(tmp_path, "one", kl=0.25), made.bundle(tmp_path, "two", kl=None, n_bytes=12_500_000)]
    head, *rows = columns.lines(subject.read(paths)).splitlines()
    quality = "KL mean KL p99 top-1 perplexity prefill/decode KL int8 cache KL"
    assert " ".join(head.split()) == f"bundle recipe size bits/weight {quality}"
    assert rows[0].split()[:2] == ["one", "mine"] and "0.250" in rows[0] and "14.25" in rows[0] and "90.0 %" in rows[0]
    assert "12.5 MB" in rows[1] and rows[1].count("–") == 6
    timed = columns.lines(subject.read(paths, [made.bench(tmp_path, "one")]))
    assert "prefill tok/s" in timed and "1234" in timed and "56.5" in timed


def test_the_best_figure_is_that_of_a_quantized_bundle(tmp_path: Path) -> None:
    paths = [made.bundle(tmp_path, name, kl=kl, scheme=scheme)
             for name, kl, scheme in (("a", 1e-12, "fp32"), ("b", 0.1, "int8"), ("c", 0.3, "int4"))]  # fmt: skip
    subjects = subject.read(paths)
    assert columns.KL_MEAN.best(subjects) == 0.1
    assert columns.KL_MEAN.best(subjects[:2]) is None


def test_a_voice_is_no_bundle_of_a_report(tmp_path: Path) -> None:
    stage(write_piper(tmp_path / "p", "eva"), tmp_path)
    with pytest.raises(ReportError, match="eva is a voice: a report is of chat and speech bundles"):
        subject.read([tmp_path])
