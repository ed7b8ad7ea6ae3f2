"""Dates and years as English words."""

import re

from edge.speech.english.numerals import cardinal, decade, ordinal, year

_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_SHORT = {month[:3]: month for month in _MONTHS} | {"Sept": "September"}
_MONTH = rf"(?:{'|'.join(_MONTHS)}|(?:{'|'.join(sorted(_SHORT, reverse=True))})\b\.?)"
_DAY = r"(?:3[01]|[12][0-9]|0?[1-9])"
_YEAR = r"(?:1[0-9]{3}|20[0-9]{2})"
_END = r"(?![\w%]|[.,:/][0-9])"  # of a number

_ISO = re.compile(rf"(?<![\w-])({_YEAR})-(0[1-9]|1[0-2])-({_DAY})(?![\w-])")
_MONTH_DAY = re.compile(rf"\b({_MONTH})\s+({_DAY})(?:st|nd|rd|th)?{_END}(?:,?\s+({_YEAR}){_END})?")
_DAY_MONTH = re.compile(
    rf"(?<![\w.,:])(the\s+)?({_DAY})(?:st|nd|rd|th)?\s+(?:of\s+)?({_MONTH})(?!\w)(?:,?\s+({_YEAR}){_END})?"
)
_MONTH_YEAR = re.compile(rf"\b({_MONTH}),?\s+({_YEAR}){_END}")
_SLASHED = re.compile(rf"(?<![\w/.])([0-9]{{1,2}})([/.])([0-9]{{1,2}})\2({_YEAR})(?![\w/])")
_DECADE = re.compile(
    r"(?<![\w.,])(?:(1[1-9][0-9]0|20[0-9]0)['’]?s|(?:['’]|(?<=the )|(?<=early )|(?<=late )|(?<=mid-))([1-9]0)s)\b"
)
_YEARS = re.compile(rf"(?<![\w.,$€£-])({_YEAR})\s?[–-]\s?({_YEAR}|[0-9]{{2}}){_END}(?!-)")
_ERA = re.compile(r"(?<![\w.,])([0-9]{1,4})\s?(BCE?|CE|AD)\b")
_AD = re.compile(rf"\bAD\s([0-9]{{1,4}}){_END}")
_BARE = re.compile(
    rf"(\S+\s)?(?<![\w.,:/$€£¥#=×*+<>~≈–-])(1[1-9][0-9]{{2}}|20[0-9]{{2}}){_END}(?!-)(?=(\s?[^\W\d_]\w*)?)"
)

_YEAR_WORDS = """
in since from until till during before after around circa year late early mid summer winter spring autumn fall copyright
© christmas easter
"""
_RECENT_WORDS = "by of to and or between the this a last next its through on for at with against"
_NUMBER_WORDS = """
number room page port code about over than equals total exactly nearly almost only = + × line step level has have had
approximately up
"""
_COUNTED_WORDS = """
people men women children times years days hours minutes seconds meters metres miles kilometers kilometres feet pounds
dollars euros percent points tokens bytes words pages pixels items units copies others million billion degrees liters
litres grams kilograms calories steps volts watts images files rows samples lines students members employees square
cubic km m cm mm kg g mg lb oz mi ft yd ml l kb mb gb tb hz khz mhz ghz w kw kwh v mv ms s min h mah px fps rpm mph ha
pa hpa kpa psi k
"""
_BEFORE_YEARS, _BEFORE_RECENT = frozenset(_YEAR_WORDS.split()), frozenset(_RECENT_WORDS.split())
_BEFORE_NUMBERS, _COUNTED = frozenset(_NUMBER_WORDS.split()), frozenset(_COUNTED_WORDS.split())


def dated(text: str, *, language: str) -> str:
    """Return a text with its dates and years as words. language: `en`, or with a region, which decides 3/5/2024."""
    text = _ISO.sub(lambda m: _date(m[3], _MONTHS[int(m[2]) - 1], m[1]), text)
    text = _SLASHED.sub(lambda m: _slashed(m, language), text)
    text = _MONTH_DAY.sub(lambda m: _date(m[2], _month(m[1]), m[3]), text)
    text = _DAY_MONTH.sub(_day_month, text)
    text = _MONTH_YEAR.sub(lambda m: f"{_month(m[1])} {year(m[2])}", text)
    text = _DECADE.sub(lambda m: decade(m[1] or m[2]), text)
    text = _YEARS.sub(_years, text)
    text = _ERA.sub(lambda m: f"{_old(m[1])} {' '.join(m[2])}", text)
    text = _AD.sub(lambda m: f"A D {_old(m[1])}", text)
    return _BARE.sub(_bare, text)


def _month(name: str) -> str:
    return _SHORT.get(name.rstrip("."), name)


def _date(day: str, month: str, its_year: str | None) -> str:
    words = f"{month} {ordinal(str(int(day)))}"
    return f"{words}, {year(its_year)}" if its_year else words


def _day_month(m: re.Match[str]) -> str:
    words = f"{m[1] or 'the '}{ordinal(str(int(m[2])))} of {_month(m[3])}"
    return f"{words}, {year(m[4])}" if m[4] else words


def _slashed(m: re.Match[str], language: str) -> str:
    """Read 3/5/2024: by the region, or by a number that is no month; else number by number, which is no lie."""
    first, second = int(m[1]), int(m[3])
    region = language.lower().replace("_", "-").partition("-")[2]
    is_month_first = second > 12 or (m[2] == "/" and region == "us")
    is_day_first = first > 12 or m[2] == "." or region not in ("", "us")
    if is_month_first and 1 <= first <= 12 and second <= 31:
        return _date(m[3], _MONTHS[first - 1], m[4])
    if is_day_first and 1 <= second <= 12 and 1 <= first <= 31:
        return _date(m[1], _MONTHS[second - 1], m[4])
    between = " slash " if m[2] == "/" else " dot "
    return between.join((cardinal(str(first)), cardinal(str(second)), year(m[4])))


def _years(m: re.Match[str]) -> str:
    second = year(m[2]) if len(m[2]) == 4 else cardinal(m[2])
    is_span = int(m[1][-len(m[2]) :]) < int(m[2])
    return f"{year(m[1])} to {second}" if is_span else m[0]


def _old(digits: str) -> str:
    return year(digits) if len(digits) in (3, 4) and not digits.startswith("0") else cardinal(digits)


def _bare(m: re.Match[str]) -> str:
    """Read a number of four digits as a year where what is around it says so."""
    before = (m[1] or "").strip().lower().lstrip("(\"'“‘[")
    follows = (m[3] or "").strip().lower()
    is_recent = m[2] >= "1900"
    if follows in _COUNTED or before in _BEFORE_NUMBERS:
        return m[0]
    is_year = before in _BEFORE_YEARS or (is_recent and (before in _BEFORE_RECENT or not follows))
    return f"{m[1] or ''}{year(m[2])}" if is_year else m[0]
