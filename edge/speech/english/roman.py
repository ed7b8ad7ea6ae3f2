"""Roman numerals as English words, behind words that make them numerals."""

import re

from edge.speech.english.numerals import cardinal, ordinal

_VALUES = {"M": 1000, "D": 500, "C": 100, "L": 50, "X": 10, "V": 5, "I": 1}
_NUMERAL = r"(?:XC|XL|L?X{0,3})(?:I[XV]|V?I{0,3})(?<=[IVXLC])"
_COUNTED_WORDS = """
World War|Chapter|Part|Volume|Vol\\.|Act|Scene|Book|Type|Phase|Section|Stage|Class|Level|Appendix|Article|Title|Bowl|
Figure|Table|Grade|Factor|Schedule|Division|Tier|Mark|Apollo|Rocky|Olympiad
""".replace("\n", "")
_COUNTED = re.compile(rf"\b({_COUNTED_WORDS})\s+({_NUMERAL})\b(?!['’.]\w)")
_RULERS = """
Henry|Louis|Elizabeth|George|Edward|Richard|William|Charles|James|Philip|Felipe|Peter|Catherine|Napoleon|Paul|John|Pius|
Leo|Benedict|Alexander|Frederick|Nicholas|Ramses|Ramesses|Ptolemy|Mary|Francis|Gregory|Clement|Innocent|Urban|Ferdinand|
Alfonso|Leopold|Wilhelm|Friedrich|Albert|Otto|Harald|Gustav|Carl|Christian|Juan|Ivan|Robert|Constantine|Theodosius|
Justinian|Cleopatra|Darius|Xerxes|Cyrus|Murad|Mehmed|Suleiman|Selim|Boniface|Sixtus|Margrethe|Haakon|Olav
""".replace("\n", "")
# A lone I is a word more often than a numeral.
_FIRST = r"I(?=['’]s\b|[,;:)]?\s(?:of|was|is|ruled|reigned|became|died)\b)"
_RULER = re.compile(rf"\b({_RULERS})\s+((?!I\b){_NUMERAL}|{_FIRST})\b(?!['’](?:m|d|ll|ve)\b)")


def with_romans(text: str) -> str:
    """Return a text with the numerals in "World War II", "Chapter IV" and "Henry VIII" as words; others stay."""
    text = _COUNTED.sub(lambda m: f"{m[1]} {cardinal(str(_value(m[2])))}", text)
    return _RULER.sub(lambda m: f"{m[1]} the {ordinal(str(_value(m[2])))}", text)


def _value(numeral: str) -> int:
    values = [_VALUES[letter] for letter in numeral]
    return sum(
        -value if any(after > value for after in values[i + 1 : i + 2]) else value for i, value in enumerate(values)
    )
