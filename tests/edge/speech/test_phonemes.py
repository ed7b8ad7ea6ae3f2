"""Text becomes sounds by espeak-ng as a process, its punctuation kept; for Kokoro they are written as misaki does."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.errors import VoiceError
from edge.speech.misaki import misaki
from edge.speech.phonemes import Phonemizer, clauses
from tests.edge.espeak import needs_espeak


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Hello, world.", [("Hello", ","), ("world", ".")]),
        ("It is 3.5 at 10:30, or 1,000?", [("It is 3.5 at 10:30", ","), ("or 1,000", "?")]),
        ('He said "no." Then: "go!"', [('He said "no', "."), ('" Then', ":"), ('"go', "!")]),
        ("Wait\u2026 what?!", [("Wait", "\u2026"), ("what", "?")]),
        ("One \u2013 two - three", [("One", ","), ("two", ","), ("three", "")]),
        ("\u4f60\u597d\uff0c\u4e16\u754c\u3002", [("\u4f60\u597d", ","), ("\u4e16\u754c", ".")]),
        ("a\n\nb", [("a", "."), ("b", "")]),
        ("... !", []),
        ("", []),
    ],
)
def test_a_text_is_divided_at_its_punctuation(text: str, parts: list[tuple[str, str]]) -> None:
    assert clauses(text) == parts


@needs_espeak
@pytest.mark.parametrize(
    ("language", "text", "sounds"),
    [
        ("en-us", "Hello, my friend!", "həlˈoʊ, maɪ fɹˈɛnd!"),
        ("de", "Guten Tag.", "ɡˈuːtən tˈɑːk."),
        ("en-us", "no mark", "nˈoʊ mˈɑːɹk"),
        ("en-us", "", ""),
        ("en-us", "?!", ""),
    ],
)
def test_sounds_keep_their_punctuation(language: str, text: str, sounds: str) -> None:
    assert Phonemizer.open(language).phonemes(text) == sounds


@needs_espeak
def test_a_clause_that_espeak_ng_divides_stays_with_its_mark() -> None:
    # espeak-ng takes the bracket for the end of a clause.
    sounds = Phonemizer.open("en-us").phonemes("one (two) three, four.")
    assert sounds.count(",") == 1
    assert sounds.endswith(".")
    assert len(sounds.split()) == 4


@needs_espeak
def test_a_line_that_is_too_long_for_espeak_ng_is_read_whole() -> None:
    assert len(Phonemizer.open("en-us").phonemes("no " * 500).split()) == 500


@needs_espeak
def test_phonemes_in_a_text_are_no_command() -> None:
    assert "h@l" not in Phonemizer.open("en-us").phonemes("[[h@l'oU]]")


@needs_espeak
def test_marks_of_another_language_are_no_sounds() -> None:
    assert "(" not in Phonemizer.open("de").phonemes("Das ist ein Computer von Microsoft und ein Meeting.")


@needs_espeak
def test_a_language_that_espeak_ng_lacks_is_named() -> None:
    with pytest.raises(VoiceError, match="does not know the language 'tlh-x'"):
        Phonemizer.open("tlh-x")


def test_without_espeak_ng_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(VoiceError, match="espeak-ng is not installed"):
        Phonemizer.open("en-us")


@pytest.mark.parametrize(
    ("language", "ipa", "letters"),
    [
        ("en-us", "həlˈo^ʊ", "həlˈO"),
        ("en-us", "d^ʒˈʌmps ˌo^ʊvɚ lˈe^ɪzi", "ʤˈʌmps ˌOvəɹ lˈAzi"),
        ("en-us", "bˈɜːd fˈɑːks", "bˈɜɹd fˈɑks"),
        ("en-us", "bˈʌʔn\u0329", "bˈʌtᵊn"),
        ("en-us", "lˈɪɾə^l", "lˈɪɾᵊl"),
        ("en-gb", "ɡˈə^ʊ kˈe^ə", "ɡˈQ kˈɛː"),
        ("en-gb", "fˈɑːðə", "fˈɑːðə"),
        ("en-us", "a^ɪ kæn", "ˌI kæn"),
        ("en-gb", "a^ɪɐm hˈiə", "ˌIəm hˈɪə"),
        ("en-us", "a^ɪdˈiə ma^ɪ a^ɪm", "Idˈiə mI ˌIm"),
        ("it", "t^ʃˈa^ʊ", "ʧˈW"),
    ],
)
def test_ipa_is_written_as_misaki_does(language: str, ipa: str, letters: str) -> None:
    assert misaki(ipa, language) == letters


@needs_espeak
def test_kokoros_sounds_have_one_letter_for_two() -> None:
    sounds = Phonemizer.open("en-us", is_misaki=True).phonemes("The quick brown fox jumps over.")
    assert sounds == "ðə kwˈɪk bɹˈWn fˈɑks ʤˈʌmps ˈOvəɹ."
