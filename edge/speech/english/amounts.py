"""Amounts as English words: money, numbers with units, times, fractions."""

import re
from collections.abc import Callable

from edge.speech.english.measures import CURRENCIES, PER, UNITS
from edge.speech.english.numerals import cardinal, decimal, denominator

NUMBER = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+"
_START = r"(?<![\w.,])"
_RANGE = r"\s?[–-]\s?|\s+to\s+"
_SIGNS = "|".join(re.escape(sign) for sign in sorted(CURRENCIES, key=len, reverse=True) if not sign.isalpha())
_CODES = "|".join(re.escape(sign) for sign in sorted(CURRENCIES, key=len, reverse=True))
_SCALES = {
    "k": "thousand", "K": "thousand", "thousand": "thousand", "m": "million", "M": "million", "mn": "million",
    "million": "million", "B": "billion", "b": "billion", "bn": "billion", "billion": "billion", "T": "trillion",
    "trillion": "trillion",
}  # fmt: skip
_SCALE = rf"(?:\s?({'|'.join(sorted(_SCALES, key=len, reverse=True))})(?!\w))?"
_MONEY_FRONT = re.compile(
    rf"(?<!\w)({_CODES})\s?({NUMBER})(?:({_RANGE})(?:{_SIGNS})?({NUMBER}))?{_SCALE}(?![\w%]|[.,][0-9])"
)
_MONEY_BEHIND = re.compile(rf"{_START}({NUMBER})(?:({_RANGE})({NUMBER}))?{_SCALE}\s?({_CODES})(?!\w)")
_UNIT = "|".join(re.escape(sign) for sign in sorted(UNITS, key=len, reverse=True))
_PER = "|".join(re.escape(sign) for sign in sorted(PER, key=len, reverse=True))
_RANGES = rf"(?:{_RANGE}|\s?(%|°[CF]?)(?:{_RANGE})(?=(?:{NUMBER})\s?\2))"
_MEASURE = re.compile(
    rf"{_START}({NUMBER})(?:{_RANGES}((?:minus )?(?:{NUMBER})))?(\s|-)?({_UNIT})(?:/({_PER}))?"
    r"(?![\w²³^/°%]|['’]\w\w|-\w)(?:(?<=[a-z])\.(?=,|\s+[a-z(]))?"
)
_PER_WORD = re.compile(rf"(?<=[a-z])\s?/\s?({_PER})(?!\w)")
_FEET = re.compile(rf"{_START}([0-9]+)\s?['’′]\s?([0-9]+(?:\.[0-9]+)?)\s?(?:[\"”″]|''|’’)")
_PRIMES = re.compile(rf"{_START}({NUMBER})(?:\s?([′″])|['’](?=\s(?:tall|long|wide|high|deep|by|x)\b))")
_INCHES = re.compile(rf"{_START}({NUMBER})[\"”](?=\s|[.,;:!?)x×]|$|-)")
_CLOCK = r"(?:[01]?[0-9]|2[0-4])"
_HALF = r"(?:[aApP][mM]\b|[aApP]\.\s?[mM]\b\.?)"
_TIME = re.compile(rf"(?<![\w:.,])({_CLOCK}):([0-5][0-9])(?::([0-5][0-9])(?:[.,][0-9]+)?)?(?:\s?({_HALF}))?(?![\w:])")
_HOUR = re.compile(rf"(?<![\w:.,])(1[0-2]|0?[1-9])(?:\.([0-5][0-9]))?\s?({_HALF})(?!\w)")
_HOURS = re.compile(rf"(?<![\w:.,])(1[0-2]|[1-9])\s?[–-]\s?(?=(?:1[0-2]|[1-9])(?::[0-5][0-9])?\s?{_HALF})")
_CLOCKS = re.compile(rf"({_CLOCK}:[0-5][0-9](?:\s?{_HALF})?)\s?[–-]\s?(?={_CLOCK}:[0-5][0-9])")
_VULGAR = {
    "½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅖": "2/5", "⅗": "3/5", "⅘": "4/5",
    "⅙": "1/6", "⅚": "5/6", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8", "⅞": "7/8",
}  # fmt: skip
_FRACTION = re.compile(r"(?<![\w/.,])(?:([0-9]+)[\s-])?([0-9]{1,2})[/⁄]([0-9]{1,3})(?![\w/]|[.,][0-9])")
_DENOMINATORS = (2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 20, 32, 50, 64)


def number(text: str) -> str:
    """Return a number as words: whole or decimal, with commas between its thousands."""
    whole, _, fraction = text.replace(",", "").partition(".")
    return decimal(whole, fraction) if fraction else cardinal(whole)


def measured(text: str) -> str:
    """Return a text with money, measures, times and fractions as words."""
    text = "".join(f" {_VULGAR[c]}" if c in _VULGAR else c for c in text)
    rules: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
        (_CLOCKS, lambda m: f"{m[1]} to "),
        (_HOURS, lambda m: f"{cardinal(m[1])} to "),
        (_TIME, _time),
        (_HOUR, lambda m: f"{_clock(int(m[1]), int(m[2] or 0), True)} {_half(m[3])}"),
        (_MONEY_FRONT, lambda m: _money(m[1], m[2], m[3], m[4], m[5])),
        (_MONEY_BEHIND, lambda m: _money(m[5], m[1], m[2], m[3], m[4])),
        (_FEET, lambda m: f"{_counted(m[1], 'foot', 'feet')} {_counted(m[2], 'inch', 'inches')}"),
        (_PRIMES, lambda m: _counted(m[1], *(("foot", "feet") if m[2] != "″" else ("inch", "inches")))),
        (_MEASURE, _measure),
        (_PER_WORD, lambda m: f" per {PER[m[1]]}"),
        (_FRACTION, _fraction),
    )
    for pattern, words in rules:
        text = pattern.sub(words, text)
    if text.count('"') % 2 or ("”" in text and "“" not in text):
        text = _INCHES.sub(_inches, text)
    return text


def _is_adjective(m: re.Match[str]) -> bool:
    """Return whether a measure stands in front of its noun, as in "a 27 inch monitor"."""
    before, behind = m.string[: m.start()].lower(), m.string[m.end() :]
    return before.endswith((" a ", " an ")) or before in ("a ", "an ") if behind[:1] == " " else False


def _counted(amount: str, one: str, many: str) -> str:
    return f"{number(amount)} {one if amount == '1' else many}"


def _inches(m: re.Match[str]) -> str:
    return f"{number(m[1])} inch" if _is_adjective(m) else _counted(m[1], "inch", "inches")


def _money(sign: str, amount: str, between: str | None, last: str | None, scale: str | None) -> str:
    currency = CURRENCIES[sign]
    if last is not None or scale is not None:
        words = f"{number(amount)} to {number(last)}" if last is not None else number(amount)
        return " ".join(filter(None, (words, _SCALES.get(scale or ""), currency.many)))
    whole, _, cents = amount.replace(",", "").partition(".")
    if len(cents) != 2 or not currency.part:
        return _counted(amount, currency.one, currency.many)
    parts = _counted(str(int(cents)), currency.part, currency.parts)
    if int(whole or 0) == 0 and int(cents):
        return parts
    wholes = _counted(whole or "0", currency.one, currency.many)
    return f"{wholes} and {parts}" if int(cents) else wholes


def _measure(m: re.Match[str]) -> str:
    amount, _, last, joint, sign, per = m.groups()
    one, many = UNITS[sign]
    words = number(amount)
    if last is not None:
        words += f" to {'minus ' * last.startswith('minus ')}{number(last.removeprefix('minus '))}"
    is_one = (last is None and amount == "1") or joint == "-" or _is_adjective(m)
    return f"{words} {one if is_one else many}" + (f" per {PER[per]}" if per else "")


def _half(text: str) -> str:
    """Return "a.m." or "PM" as letters."""
    return f"{text[0].lower()} m"


def _time(m: re.Match[str]) -> str:
    hour, minute = int(m[1]), int(m[2])
    words = _clock(hour, minute, m[4] is not None)
    if m[3] is not None:
        words += f" and {_counted(str(int(m[3])), 'second', 'seconds')}"
    return f"{words} {_half(m[4])}" if m[4] else words


def _clock(hour: int, minute: int, has_half: bool) -> str:
    if minute:
        return f"{cardinal(str(hour))} {'oh ' * (minute < 10)}{cardinal(str(minute))}"
    if has_half:
        return cardinal(str(hour))
    if hour in (0, 24):
        return "midnight"
    return f"{cardinal(str(hour))} o'clock" if hour <= 12 else f"{cardinal(str(hour))} hundred"


def _fraction(m: re.Match[str]) -> str:
    whole, upper, lower = m[1], int(m[2]), int(m[3])
    if (upper, lower) == (24, 7):
        return "twenty-four seven"
    if upper == lower and upper > 9 and whole is None:
        return f"{cardinal(m[2])} {cardinal(m[3])}"
    is_part = 0 < upper < lower
    if is_part and lower in _DENOMINATORS and (whole is None or lower < 20):
        one = "a" if whole and upper == 1 else cardinal(m[2])
        words = f"{one} {denominator(lower, is_one=upper == 1)}"
        return f"{cardinal(whole)} and {words}" if whole else words
    if is_part and lower in (10, 100) and whole is None:
        return f"{cardinal(m[2])} out of {cardinal(m[3])}"
    front = f"{cardinal(whole)} " if whole else ""
    return f"{front}{cardinal(m[2])} slash {cardinal(m[3])}"
