"""Sentences as they are read aloud, by their language: what a voice gets in the place of digits and signs."""

import re

from edge.speech.english.reading import read

_MOST_CHARS = 4000  # of one sentence: espeak-ng accepts 5000
_ITEM = re.compile(r"^([0-9]{1,3})[.)]\s")


def speakable(sentence: str, *, language: str) -> str:
    """Return a sentence of plain text with its numbers, units, dates and signs as words, in English.

    One whose words are more than 4000 characters, such as a thousand fractions, stays as it is. In other languages
    numbers stay as they are, which a voice of the language reads. language: a code such as `en-GB`.
    """
    if language.lower().replace("_", "-").partition("-")[0] == "en":
        words = read(sentence, language=language)
        return words if len(words) <= _MOST_CHARS else sentence
    return _ITEM.sub(r"\1, ", sentence)
