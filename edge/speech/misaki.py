"""espeak-ng's IPA as misaki spells it, which Kokoro was trained on: one letter for a diphthong or an affricate.

Source: the table of misaki 0.9 for words that are in none of its dictionaries, and that for other languages.
"""

import re
from typing import Final

_Table = tuple[tuple[str, str], ...]  # applied in this order, the longer before their parts

# ^ ties the letters of one sound.
_ENGLISH: Final[_Table] = (
    ("ʔˌn\u0329", "tᵊn"), ("ʔn\u0329", "tᵊn"), ("a^ɪ", "I"), ("a^ʊ", "W"), ("d^ʒ", "ʤ"), ("e^ɪ", "A"), ("t^ʃ", "ʧ"),
    ("ɔ^ɪ", "Y"), ("ə^l", "ᵊl"), ("ʔn", "tᵊn"), ("ʲO", "jO"), ("ʲQ", "jQ"), ("\u0303", ""), ("ɐ", "ə"), ("ɚ", "əɹ"),
    ("ɬ", "l"), ("ʔ", "t"), ("ʲ", ""), ("ç", "k"), ("x", "k"), ("r", "ɹ"),
)  # fmt: skip
_BRITISH: Final[_Table] = (("e^ə", "ɛː"), ("iə", "ɪə"), ("ə^ʊ", "Q"), ("e", "A"), ("o", "ɔ"))
_AMERICAN: Final[_Table] = (
    ("o^ʊ", "O"), ("ɜːɹ", "ɜɹ"), ("ɜː", "ɜɹ"), ("ɪə", "iə"), ("ː", ""), ("e", "A"), ("o", "ɔ")
)  # fmt: skip
_OTHERS: Final[_Table] = (
    ("a^ɪ", "I"), ("a^ʊ", "W"), ("d^z", "ʣ"), ("d^ʒ", "ʤ"), ("e^ɪ", "A"), ("o^ʊ", "O"), ("ə^ʊ", "Q"), ("s^s", "S"),
    ("t^s", "ʦ"), ("t^ʃ", "ʧ"), ("ɔ^ɪ", "Y"), ("-", ""),
)  # fmt: skip
_SYLLABIC: Final = re.compile(r"(\S)\u0329")
# espeak-ng does not stress the pronoun, misaki does: without it, Kokoro swallows an I that begins a sentence.
_PRONOUN: Final = re.compile(r"(?<!\S)I(?=(?:əm|[mvld])?(?:\s|$))")


def misaki(ipa: str, language: str) -> str:
    """Return what espeak-ng wrote, tied with ^, in misaki's letters. language: espeak-ng's code, such as `en-us`."""
    if not language.startswith("en"):
        return _replaced(ipa, _OTHERS).replace("^", "")
    spelled = _SYLLABIC.sub(r"ᵊ\1", _replaced(ipa, _ENGLISH)).replace("\u0329", "")
    spelled = _replaced(spelled, _AMERICAN if language == "en-us" else _BRITISH).replace("^", "")
    return _PRONOUN.sub("ˌI", spelled)


def _replaced(text: str, table: _Table) -> str:
    for old, new in table:
        text = text.replace(old, new)
    return text
