"""The page: sound HTML, nothing from elsewhere, nothing of a bundle unescaped, the same bytes every time."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest

from export.report import page, subject
from tests.export.report import made

VOID = {"meta"}
HOSTILE = "</style></svg><script>alert(1)</script>\"'><img src=http://example.com/x onerror=alert(1)>&\x00\u202e"
HEADINGS = ["At a glance", "Size against loss", "Where the loss is", "By kind of text", "Error by tensor",
            "What the bytes are", "Speed", "How this was made and measured"]  # fmt: skip


class Sound(HTMLParser):
    """Reads a page strictly: every element ends where it has to, and is one that reports consist of."""

    def __init__(self, data: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(data.decode())
        self.close()
        assert not self.open, f"never ended: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({key for key, _ in attrs}) == len(attrs), f"{tag}: an attribute twice"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> does not end what is open"

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.open[-1], data))

    def of(self, tag: str) -> list[str]:
        return [words for name, words in self.texts if name == tag]


def bundles(folder: Path) -> list[Path]:
    mixed = lambda layer, _: "int8" if layer > 23 else "int4"  # noqa: E731
    return [
        made.bundle(folder, "smol-fp32", scheme="fp32", n_bytes=5_000_000, kl=3e-13),
        made.bundle(folder, "smol-int8", n_bytes=1_400_000, kl=0.005),
        made.bundle(folder, "smol-mixed", scheme=mixed, n_bytes=1_000_000, kl=0.1),
        made.bundle(folder, "smol-int4", scheme="int4", n_bytes=800_000, kl=0.3),
        made.bundle(folder, "smol-worse", scheme="int4", n_bytes=900_000, kl=0.4),
    ]


def rendered(paths: Sequence[Path], benches: Sequence[Path] = ()) -> bytes:
    return page.render(subject.read(paths, benches))


def test_a_comparison_has_every_section(tmp_path: Path) -> None:
    sound = Sound(rendered(bundles(tmp_path), [made.bench(tmp_path, "smol-int8"), made.bench(tmp_path, "smol-int4")]))
    assert sound.of("h1") == ["5 bundles of smol"] and sound.of("h2") == HEADINGS
    figures = [tag for tag, _ in sound.elements if tag == "figure"]
    assert len(figures) == 5
    assert len([words for words in sound.of("summary") if words == "The figures as a table"]) == len(figures)
    assert "smol-worse".removeprefix("smol-") + " is beaten by int4" in " ".join(sound.of("li"))


def test_one_bundle_has_its_figures_and_no_comparison(tmp_path: Path) -> None:
    sound = Sound(rendered([made.bundle(tmp_path, "smol-int8", kl=0.25)]))
    assert sound.of("h1") == ["smol-int8"] and sound.of("h2") == [*HEADINGS[2:6], HEADINGS[7]]
    assert {"0.250", "90.0 %", "14.25 (reference 13.50)"} <= set(sound.of("dd"))


def test_without_a_certificate_there_is_a_page_that_says_so(tmp_path: Path) -> None:
    sound = Sound(rendered([made.bundle(tmp_path, "smol-int8", kl=None)]))
    assert sound.of("h2") == [*HEADINGS[4:6], HEADINGS[7]]
    assert any("Without a certificate" in words for words in sound.of("li"))


def test_old_certificates_have_no_curves_but_stand_in_the_plot(tmp_path: Path) -> None:
    old = dict.fromkeys(
        ("sets", "kl_positions", "perplexity", "prefill_decode", "int8_cache", "evaluation", "machine"), ...
    )
    paths = [made.bundle(tmp_path, "a-one", **old), made.bundle(tmp_path, "a-two", n_bytes=500_000, kl=0.5, **old)]
    sound = Sound(rendered(paths))
    assert HEADINGS[1] in sound.of("h2") and HEADINGS[2] not in sound.of("h2")
    mixed = Sound(rendered([*paths, made.bundle(tmp_path, "a-three")]))
    assert "No divergences by position in the certificates of one, two." in mixed.of("p")
    assert any("differ in extent" in words for words in mixed.of("li"))


def test_a_missed_threshold_is_said_first(tmp_path: Path) -> None:
    data = rendered([made.bundle(tmp_path, "smol", missed=["mean KL divergence 0.5 is 0.1 over max_mean_kl 0.4"])])
    said = "smol misses a threshold of its recipe: mean KL divergence 0.5 is 0.1 over max_mean_kl 0.4."
    assert said in Sound(data).of("li")
    assert data.index(b"misses a threshold") < data.index(b"<h2>")


def test_bundles_of_different_checkpoints_are_told(tmp_path: Path) -> None:
    one, two = made.bundle(tmp_path, "one"), made.bundle(tmp_path, "two")
    same = Sound(rendered([one, two]))
    assert not any("different checkpoints" in words for words in same.of("li"))
    document = json.loads((two / "manifest.json").read_text())
    document["source"]["files"]["model.safetensors"] = "2" * 64
    (two / "manifest.json").write_text(json.dumps(document))
    assert any("different checkpoints" in words for words in Sound(rendered([one, two])).of("li"))


def test_nothing_is_loaded_from_elsewhere_and_no_script_runs(tmp_path: Path) -> None:
    data = rendered(bundles(tmp_path), [made.bench(tmp_path, "smol-int8")])
    sound = Sound(data)
    assert not {tag for tag, _ in sound.elements} & {"script", "link", "img", "image", "iframe", "use", "a", "object"}
    attributes = {key for _, attributes in sound.elements for key in attributes}
    assert not [key for key in attributes if key.startswith("on") or key in ("src", "href", "style", "xlink:href")]
    assert not re.findall(rb"url\(|@import|https?:|javascript:", data)
    policy = next(found["content"] for tag, found in sound.elements if "http-equiv" in found and tag == "meta")
    assert policy is not None and "default-src 'none'" in policy


def test_what_bundles_and_measurements_say_is_escaped(tmp_path: Path) -> None:
    hostile = {"scheme": "int8", "error": 0.5}
    path = made.bundle(
        tmp_path, "bad", recipe=HOSTILE, tensors={HOSTILE: hostile, "decoder.layers.1." + HOSTILE: hostile},
        level=HOSTILE, missed=[HOSTILE], machine={"processor": HOSTILE}, versions={HOSTILE: HOSTILE},
        evaluation={"file": HOSTILE, "sha256": HOSTILE}, thresholds={HOSTILE: 1.0},
        sets={HOSTILE: {"kl": {"mean": 0.5}}}, kl_positions=[{"set": HOSTILE, "kl": [0.1, 0.2, 0.3]}],
    )  # fmt: skip
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["source"].update(architecture=HOSTILE, notes=[HOSTILE], files={HOSTILE: HOSTILE})
    (path / "manifest.json").write_text(json.dumps(manifest))
    for paths in ([path], [path, made.bundle(tmp_path, "good")]):
        data = rendered(paths, [made.bench(tmp_path, "bad", cpu=HOSTILE)])
        sound = Sound(data)
        assert not {tag for tag, _ in sound.elements} & {"script", "img"}
        assert "onerror" not in {key for _, attributes in sound.elements for key in attributes}
        assert b"<script" not in data and b"\x00" not in data and "\u202e" not in data.decode()
        assert sum("<script>alert(1)</script>" in words for _, words in sound.texts) > 8  # shown, as text


def test_the_same_figures_give_the_same_bytes(tmp_path: Path) -> None:
    paths = bundles(tmp_path)
    assert rendered(paths) == rendered(paths)


def test_a_page_of_many_tensors_stays_small(tmp_path: Path) -> None:
    many = {f"odd.{index}": {"scheme": "int8", "error": 0.1} for index in range(20_000)}
    data = rendered([made.bundle(tmp_path, "many", tensors=many)])
    assert len(data) < 1_000_000
    assert any("19978 more tensors are not drawn." in words for words in Sound(data).of("p"))


@pytest.mark.parametrize("scheme", ["fp32", "int8", "int4"])
def test_every_decoder_tensor_has_a_cell_with_its_scheme_and_error(scheme: str, tmp_path: Path) -> None:
    sound = Sound(rendered([made.bundle(tmp_path, "one", scheme=scheme, kl=0.1)]))
    cells = {words for words in sound.of("title") if words.startswith("decoder layer ")}
    assert len(cells) == (0 if scheme == "fp32" else 128)  # of exact weights there is nothing to see
    if scheme == "int4":
        assert "decoder layer 0 down: int4, error 0.195" in cells


def test_a_curve_of_positions_ends_at_the_largest(tmp_path: Path) -> None:
    kl = [0.001] * 98 + [0.5, 4.0]
    sound = Sound(rendered([made.bundle(tmp_path, "one", kl_positions=[{"set": "text", "kl": kl}])]))
    (row,) = [place for place, (tag, words) in enumerate(sound.texts) if (tag, words) == ("td", "100")][:1]
    assert [words for _, words in sound.texts[row : row + 6]] == ["100", "0.00100", "0.00100", "0.535", "3.65", "4.00"]


def test_drawings_have_names_for_those_who_do_not_see_them(tmp_path: Path) -> None:
    sound = Sound(rendered(bundles(tmp_path)))
    drawings = [found for tag, found in sound.elements if tag == "svg"]
    assert all(
        found.get("aria-hidden") == "true" or (found["role"], bool(found["aria-label"])) == ("img", True)
        for found in drawings
    )
    assert all(found.get("scope") in ("row", "col") for tag, found in sound.elements if tag == "th")
