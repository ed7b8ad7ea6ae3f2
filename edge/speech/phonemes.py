"""Text as the sounds of a language, by espeak-ng as a separate process: it is under the GPL and is never linked."""

import re
from dataclasses import dataclass
from typing import Final

from edge.errors import VoiceError
from edge.speech import espeak
from edge.speech.misaki import misaki

# A mark ends a clause before a space, a closing quote or the end: 3.5, 10:30 and 1,000 stay whole.
_CLAUSE: Final = re.compile(r"""[.!?…,;:—–]+(?=["'”’»)\]]*(?:\s|$))|[。！？，、；：]+|\s[–—-]+(?=\s)|\n+""")
_ASCII: Final = str.maketrans("。！？，、；：—–\n", ".!?,,;:,,.")
_SWITCH: Final = re.compile(r"\([^()\s]{1,40}\)")  # (en)...(de): a word in another language
_LINE_BYTES: Final = 900  # espeak-ng reads lines of up to 999 bytes
_PHONEMES: Final = ("-q", "--ipa")
_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True)
class Phonemizer:
    """Writes text in IPA, or as Kokoro spells it. language: as espeak-ng names it; program: its path."""

    language: str
    program: str
    is_misaki: bool = False

    @classmethod
    def open(cls, language: str, *, is_misaki: bool = False) -> "Phonemizer":
        """Find espeak-ng. Raises: VoiceError where it is not installed, or does not know the language."""
        program = espeak.program()
        if language.lower() not in espeak.languages(program):
            raise VoiceError(
                f"espeak-ng, which reads the text for this voice, does not know the language {language!r:.60}"
            )
        return cls(language, program, is_misaki)

    def phonemes(self, text: str) -> str:
        """Return the phonemes of a text, its punctuation kept: `hɛlˈoʊ, wˈɜːld.`. Raises: VoiceError."""
        parts = clauses(text)
        said = self._said([clause for clause, _ in parts])
        spelled = [misaki(each, self.language) if self.is_misaki else each for each in said]
        written = (f"{sounds}{mark}" for sounds, (_, mark) in zip(spelled, parts, strict=True) if sounds or mark)
        return " ".join(written).strip()

    def _said(self, clauses: list[str]) -> list[str]:
        """Return the phonemes of each clause: all by one process, where it tells them apart."""
        lines = [espeak.harmless(clause) for clause in clauses]
        if not any(lines):
            return [""] * len(lines)
        spoken = [line for line in lines if line]
        if all(len(line.encode()) < _LINE_BYTES for line in spoken):
            found = self._run("\n".join(spoken), reads_lines=True).split("\n")
            if len(found) == len(spoken):
                coming = iter(found)
                return [" ".join(next(coming).split()) if line else "" for line in lines]
        # A clause that espeak-ng divides further.
        return [" ".join(self._run(line, reads_lines=False).split()) if line else "" for line in lines]

    def _run(self, text: str, *, reads_lines: bool) -> str:
        tie = ["--tie=^"] if self.is_misaki else []
        options = [*_PHONEMES, *tie, "-v", self.language, *([] if reads_lines else ["--stdin"])]
        wrote = espeak.run(self.program, options, f"{text}\n".encode(), _TIMEOUT_S)
        return _SWITCH.sub("", wrote.decode("utf-8", "replace")).strip("\n")


def clauses(text: str) -> list[tuple[str, str]]:
    """Divide a text at its punctuation: (clause, the mark behind it), the mark "" where there is none."""
    found, at = [], 0
    for match in _CLAUSE.finditer(text):
        mark = match[0].strip(" \t").translate(_ASCII)[:1] or ","
        found.append((text[at : match.start()].strip(), "," if mark == "-" else mark))
        at = match.end()
    found.append((text[at:].strip(), ""))
    return [(clause, mark) for clause, mark in found if any(c.isalnum() for c in clause)]
