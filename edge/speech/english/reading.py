"""An English sentence as it is read aloud: abbreviations, numbers and signs as words."""

import re
from collections.abc import Callable

from edge.speech.english.amounts import NUMBER, measured, number
from edge.speech.english.calendar import dated
from edge.speech.english.numerals import cardinal, ordinal, spelled
from edge.speech.english.roman import with_romans

_Rule = tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]

_ABBREVIATIONS = {
    "Dr": "Doctor", "Mr": "Mister", "Mrs": "Missus", "Ms": "Miz", "Prof": "Professor", "approx": "approximately",
    "vs": "versus", "etc": "et cetera", "e.g": "for example", "i.e": "that is", "cf": "compare", "dept": "department",
    "est": "estimated", "incl": "including", "w/o": "without", "w/": "with",
}  # fmt: skip
_WITH_NUMBER = {
    "No": "number", "Nos": "numbers", "Fig": "figure", "Figs": "figures", "Eq": "equation", "Sec": "section",
    "Ch": "chapter", "Chap": "chapter", "Vol": "volume", "p": "page", "pp": "pages", "Tab": "table",
}  # fmt: skip
_SIDES = {"N": "north", "S": "south", "E": "east", "W": "west"}
_EXPONENTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_N = rf"(?:{NUMBER})"
_EDGE = r"(?<![\w.,])"
_INSTANT = re.compile(  # of ISO 8601
    r"(?<![\w-])([0-9]{4}-[0-9]{2}-[0-9]{2})T([0-9]{2}:[0-9]{2})(?::[0-9]{2}(?:[.,][0-9]+)?)?"
    r"(Z|[+-][0-9]{2}(?::?[0-9]{2})?)?(?![\w:])"
)
_LETTERED = r"(?![\w]|[.,][0-9])"

_BEFORE: tuple[_Rule, ...] = (
    (re.compile(r"(?<=[0-9])[\u00a0\u2009\u202f](?=[0-9]{3}(?![0-9]))"), ","),
    (re.compile(rf"{_EDGE}[0-9]{{1,3}}(?: [0-9]{{3}})* 000(?![0-9]|[ .,][0-9])"), lambda m: m[0].replace(" ", ",")),
    (re.compile(r"[\u00a0\u2009\u202f]"), " "),
    (re.compile(r"(?<=[0-9])['’](?=[0-9]{3}(?![0-9]))"), ","),  # of Switzerland
    (_INSTANT, lambda m: f"{m[1]}, {m[2]}{' UTC' * (m[3] == 'Z')}"),
    (re.compile(r"(?<=[0-9])\s?°\s?([NSEW])\b"), lambda m: f"° {_SIDES[m[1]]}"),
    (re.compile(r"\(([0-9]{3})\)\s?([0-9]{3})-([0-9]{4})(?![\w-])"), lambda m: _phone(m[0])),
    (re.compile(r"(?<=[0-9)])\s?[-−–]\s?(?=[0-9]+(?:\.[0-9]+)?\s?=)"), " minus "),
    (re.compile(r"(?<![\w.])(Dr|Mr|Mrs|Ms|Prof)\.(?=\s)"), lambda m: _ABBREVIATIONS[m[1]]),
    (re.compile(r"(?<![\w.])(approx|etc|incl)\."), lambda m: _ABBREVIATIONS[m[1]]),
    (re.compile(r"(?<![\w.])vs?\.(?=\s)|(?<![\w.])vs(?=\s)"), "versus"),
    (re.compile(r"(?<![\w.])(e\.g|i\.e)\.?,?(?!\w)"), lambda m: f"{_ABBREVIATIONS[m[1]]},"),
    (
        re.compile(rf"(?<![\w.])({'|'.join(_WITH_NUMBER)})\.\s?(?=[0-9])", re.IGNORECASE),
        lambda m: (
            _WITH_NUMBER[m[1] if m[1] in _WITH_NUMBER else m[1].capitalize() if len(m[1]) > 2 else m[1].title()] + " "
        ),
    ),
    (re.compile(r"(?<!\w)w/o(?!\w)"), "without"),
    (re.compile(r"(?<!\w)w/\s?(?=\w)"), "with "),
    (re.compile(r"(?<=\s)@(?=\s)"), "at"),
    (re.compile(r"\b([Cc]all|[Dd]ial|[Pp]hone)\s([0-9]{3,6})(?![\w]|[.,-][0-9])"), lambda m: f"{m[1]} {spelled(m[2])}"),
    (re.compile(r"(?<![\w.,])\+[0-9]{1,3}(?:[ -][0-9]{2,9}){1,5}(?![\w]|[.,-][0-9])"), lambda m: _phone(m[0])),
    (re.compile(r"(?:#|№\s?)(?=[0-9])"), "number "),
    (re.compile(r"§§?\s?(?=[0-9])"), "section "),
    (re.compile(r"^([0-9]{1,3})[.)]\s"), lambda m: f"{cardinal(m[1])}, "),  # an item of a list
    (re.compile(r"(?<![\w)\]%°€£¥^])(?<!\^\()[-−–](?=[$€£¥₹]?\.?[0-9])"), "minus "),
)
_AFTER: tuple[_Rule, ...] = (
    (
        re.compile(rf"{_EDGE}({_N})\s?[x×*·]\s?10(?:\^|(?=[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]))\(?([-−]?[0-9]+|[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)\)?"),
        lambda m: _power_of_ten(m[1], m[2]),
    ),
    (re.compile(rf"{_EDGE}({_N})[eE]([+-]?[0-9]{{1,3}}){_LETTERED}"), lambda m: _power_of_ten(m[1], m[2])),
    (re.compile(r"(?<=[0-9A-Za-z)])(?:\^\(?([-−]?[0-9]+)\)?|([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+))"), lambda m: _power(m[1] or m[2])),
    (re.compile(rf"{_EDGE}[0-9]+(?:\.[0-9]+){{3}}{_LETTERED}"), lambda m: " dot ".join(map(cardinal, m[0].split(".")))),
    (
        re.compile(r"(?<![\w.,])v?([0-9]+(?:\.[0-9]+){2})(?![\w]|[.,][0-9])"),
        lambda m: " point ".join(map(cardinal, m[1].split("."))),
    ),
    (
        re.compile(rf"{_EDGE}([0-9]{{1,3}}(?:,[0-9]{{3}})*|[0-9]+)(st|nd|rd|th){_LETTERED}"),
        lambda m: ordinal(m[1].replace(",", "")),
    ),
    (re.compile(rf"{_EDGE}(\+?[0-9]{{2,4}}(?:[- ][0-9]{{2,4}}){{2,4}}){_LETTERED}"), lambda m: _phone(m[1])),
    (re.compile(rf"{_EDGE}([0-9]{{3}})-([0-9]{{4}}){_LETTERED}"), lambda m: f"{spelled(m[1])}, {spelled(m[2])}"),
    (
        re.compile(rf"{_EDGE}({_N})(?:\s?–\s?|-)(?:minus )?({_N}){_LETTERED}(?!-)"),
        lambda m: f"{number(m[1])} to {number(m[2])}",
    ),
    (re.compile(rf"{_EDGE}([0-9]{{1,3}}):([0-9]{{1,3}}){_LETTERED}"), lambda m: f"{number(m[1])} to {number(m[2])}"),
    (
        re.compile(rf"{_EDGE}(?!0x)({_N})\s?[x×]\s?(?={_N})(?!0x)"),
        lambda m: f"{number(m[1])} {'by' if 'x' in m[0] else 'times'} ",
    ),
    (re.compile(rf"{_EDGE}({_N})\s?[x×](?!\w)"), lambda m: f"{number(m[1])} times"),
    (re.compile(r"(?<=[\w)])\s+[-−–]\s+(?=[0-9][^=]*=)"), " minus "),
    (re.compile(r"(?<=[0-9])\s?\+\s?(?=[0-9])|(?<=\w)\s\+\s(?=\w)"), " plus "),
    (re.compile(r"(?<=[0-9])\+(?=\s|$)"), " plus"),
    (re.compile(r"(?<=[\w)])\s?[×·]\s?(?=[\w(])"), " times "),
    (re.compile(r"(?<=[\w)])\s?÷\s?(?=[\w(])|(?<=[0-9)])\s/\s(?=[0-9(])"), " divided by "),
    (re.compile(r"\s?(?:≤|<=)\s?(?=\S)"), " less than or equal to "),
    (re.compile(r"\s?(?:≥|>=)\s?(?=\S)"), " greater than or equal to "),
    (re.compile(r"\s?(?:≠|!=)\s?(?=\S)"), " is not equal to "),
    (re.compile(r"(?<=\S)\s?(?<![<>=!])={1,2}(?![=>])\s?(?=\S)"), " equals "),
    (re.compile(r"±\s?"), "plus or minus "),
    (re.compile(r"[≈~]\s?(?=[0-9]|minus)"), "about "),
    (re.compile(r"(?:(?<=\s)|^)<\s?(?=[\w.])"), "less than "),
    (re.compile(r"(?:(?<=\s)|^)>\s?(?=[\w.])"), "more than "),
    (re.compile(r"√\s?"), "the square root of "),
    (re.compile(r"(?<=\w)\s?&\s?(?=\w)"), " and "),
    (re.compile(r"^\+(?=[0-9])|(?<=\s)\+(?=[0-9])"), "plus "),
    (re.compile(rf"(?<![\w.,])({_N})(?![0-9A-Za-z_]|[.,][0-9])"), lambda m: number(m[1])),
    (re.compile(r"(?<=[A-Za-z]-)([0-9]{1,3}(?:\.[0-9]+)?)(?![\w]|[.,][0-9])"), lambda m: number(m[1])),
    # What is left of digits: lists without spaces, longer versions, numbers behind a hyphen.
    (re.compile(r"(?<=[0-9]),(?=[0-9])"), ", "),
    (re.compile(r"(?<=[0-9])\.(?=[0-9])"), " point "),
    (re.compile(r"(?<![0-9A-Za-z_])(?<![A-Za-z]\.)[0-9]+(?![0-9A-Za-z_])"), lambda m: cardinal(m[0])),
)


def read(sentence: str, *, language: str) -> str:
    """Return an English sentence with its numbers, units, dates and signs as words.

    language: `en`, or with a region. What stands within a word ("B2B", "5G") is left to the voice.
    """
    text = _changed(sentence, _BEFORE)
    text = measured(dated(with_romans(text), language=language))
    return " ".join(_changed(text, _AFTER).split())


def _changed(text: str, rules: tuple[_Rule, ...]) -> str:
    for pattern, words in rules:
        text = pattern.sub(words, text)
    return text


def _power(exponent: str) -> str:
    digits = exponent.translate(_EXPONENTS).replace("−", "-")
    if digits in ("2", "3"):
        return " squared" if digits == "2" else " cubed"
    return f" to the power of {_signed(digits)}"


def _power_of_ten(factor: str, exponent: str) -> str:
    digits = exponent.translate(_EXPONENTS).replace("−", "-").lstrip("+")
    return f"{number(factor)} times ten to the power of {_signed(digits)}"


def _signed(digits: str) -> str:
    return f"{'minus ' * digits.startswith('-')}{cardinal(digits.lstrip('-').lstrip('0') or '0')}"


def _phone(text: str) -> str:
    """Return a telephone number digit by digit, with a pause between its groups."""
    groups = ", ".join(spelled(group) for group in re.findall(r"[0-9]+", text))
    return f"plus {groups}" if text.startswith("+") else groups
