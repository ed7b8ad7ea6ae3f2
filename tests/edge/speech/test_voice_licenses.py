"""The licence that a voice's files state is found, and what its name allows is told apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.bundle.voice_spec import LicenseSpec
from edge.speech.voice_licenses import read_license, use_of, warning

CARD = """# Model card for joe (medium)

* Language: en_US (English, United States)

## Dataset

* URL: https://github.com/NabuCasa/voice-datasets
* License: {}

## Training

{}
"""


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("CC0", "any"), ("cc0-1.0", "any"), ("CC BY 4.0", "any"), ("CC-BY-SA-4.0", "any"), ("apache-2.0", "any"),
        ("MIT", "any"), ("Public domain", "any"), ("Creative Commons Attribution 4.0", "any"), ("GPL-3.0", "any"),
        ("CC BY-NC-SA 4.0", "non-commercial"), ("cc-by-nc-4.0", "non-commercial"),
        ("Attribution-NonCommercial 4.0", "non-commercial"), ("Blizzard 2013", "non-commercial"),
        ("for research only", "non-commercial"),
        ("See URL", "unknown"), ("Unknown", "unknown"), ("", "unknown"), ("openrail", "unknown"),
        ("submit to us", "unknown"), ("Francine", "unknown"),
    ],
)  # fmt: skip
def test_a_licence_tells_what_it_allows_by_its_name(name: str, use: str) -> None:
    assert use_of(name) == use


def test_a_model_card_states_licence_source_and_what_it_was_tuned_from(tmp_path: Path) -> None:
    (tmp_path / "MODEL_CARD").write_text(CARD.format("CC0", "Finetuned from U.S. English lessac voice."), "utf-8")
    found, notes, files = read_license(tmp_path)
    assert found == LicenseSpec("CC0", "any", "MODEL_CARD", "https://github.com/NabuCasa/voice-datasets")
    assert notes == ("Finetuned from U.S. English lessac voice.",)
    assert files == (tmp_path / "MODEL_CARD",)
    assert warning(found, notes) == [
        "it was trained from another voice: the terms of that one's data may hold for it as well"
    ]


@pytest.mark.parametrize(
    ("file", "text", "name"),
    [
        ("README.md", "---\nlicense: apache-2.0\n---\n# Kokoro\n", "apache-2.0"),
        ("MODEL_CARD", "* License: [CC BY 4.0](https://a.example/by)\n", "CC BY 4.0"),
        ("MODEL_CARD", "**Licence**: CC0\n", "CC0"),
        ("LICENSE", "MIT License\n\nCopyright (c)", "MIT"),
        ("LICENSE", "                 Apache License\n           Version 2.0", "Apache-2.0"),
        ("README.md", "This has no licence: none.\n", ""),
        ("MODEL_CARD", "* License: \x1b[31mCC0\x07\n", "[31mCC0"),
    ],
)
def test_a_licence_is_found_in_each_of_the_files(tmp_path: Path, file: str, text: str, name: str) -> None:
    (tmp_path / file).write_text(text, "utf-8")
    assert read_license(tmp_path)[0].name == name


def test_the_model_card_comes_before_the_licence_of_a_program(tmp_path: Path) -> None:
    (tmp_path / "LICENSE").write_text("MIT License\n", "utf-8")
    (tmp_path / "MODEL_CARD").write_text("* License: CC BY-NC 4.0\n", "utf-8")
    assert read_license(tmp_path)[0].use == "non-commercial"


def test_files_that_state_nothing_leave_it_unknown(tmp_path: Path) -> None:
    (tmp_path / "LICENSE").write_bytes(b"\xff\xfe")
    (tmp_path / "README.md").write_text("x" * (1 << 20) + "\nlicense: mit\n", "utf-8")
    assert read_license(tmp_path) == (LicenseSpec("", "unknown"), (), ())


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (LicenseSpec("CC0", "any"), []),
        (LicenseSpec("", "unknown"), ["nothing says under which licence its weights are"]),
        (LicenseSpec("See URL", "unknown", credit="a.example"), ["read its licence, 'See URL', before", "(a.example)"]),
        (LicenseSpec("CC BY-NC 4.0", "non-commercial"), ["CC BY-NC 4.0, allows no commercial use"]),
    ],
)
def test_what_is_not_free_is_said(spec: LicenseSpec, words: list[str]) -> None:
    told = " ".join(warning(spec, ()))
    assert all(word in told for word in words)
    assert bool(told) == bool(words)
