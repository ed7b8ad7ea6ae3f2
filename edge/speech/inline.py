"""A sentence without Markdown's marks inside of it: links are their text, addresses their host, emojis are left out."""

import html
import re

_CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
_HELD_FROM = 0xF0000  # private characters stand for escaped ones, which no rule may touch
_ESCAPED = re.compile(r"\\([\\`*_{}\[\]()#+\-.!|~$<>])")
_HELD = re.compile(f"[{chr(_HELD_FROM)}-{chr(_HELD_FROM + 0x7F)}]")
_HOST = re.compile(
    r"(?:\b(?:https?|ftp)://|(?<![\w@.])(?=www\.))(?:[^\s/@]*@)?([^\s/:?#<>()\"']+)[^\s<>\"'*`]*", re.IGNORECASE
)
_EMAIL = re.compile(r"\bmailto:(?=\S+@)", re.IGNORECASE)
_EMOJI = re.compile(
    "[\U0001f000-\U0001faff\u2300-\u23ff\u25a0-\u27bf\u2b00-\u2bff\ufe0e\ufe0f\u20e3\U000e0000-\U000e007f]\u200d?"
)
_KEYCAP = re.compile("([0-9#*])\ufe0f?\u20e3")
_ARROW = re.compile(r"\s*(?:[\u2190-\u21ff\u27f0-\u27ff]|<?(?:-{1,2}|=)>|<-{1,2}(?=\s))\s*")
_SMILEY = re.compile(r"(?<!\S)[:;]['’]?-?[()DPp|/](?=\s|[.!?,]|$)")
_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"^\[[ xX]\]\s+"), ""),  # a task
    (re.compile(r"\s#{2,6}\s*$"), ""),  # what closes a heading
    (re.compile(r"\\(?=\s|$)"), ""),  # what breaks a line
    (re.compile(r"\[[^\[\]]+\]:\s+<?https?://\S+(?:\s+\"[^\"]*\")?"), ""),  # where a reference leads
    (re.compile(r"!\[([^\]]*)\]\([^)]*\)"), r"\1"),
    (re.compile(r"\[\^[^\]\s]*\]:?"), ""),  # a footnote
    (re.compile(r"\[([^\[\]]+)\]\((?:[^()\s]|\([^()\s]*\))*(?:\s+[\"'(][^)]*)?\)"), r"\1"),
    (re.compile(r"\[([^\[\]]+)\]\[[^\]]*\]"), r"\1"),
    (re.compile(r"\]\((?:https?:|mailto:|[/#.])[^)\s]*\)?"), ""),  # what is left of a link that was cut
    (re.compile(r"~~"), ""),
    (re.compile(r"\*{1,3}(?=\S)([^*]*[^*\s])\*{1,3}"), r"\1"),
    (re.compile(r"(?<!\w)\*+(?=\S)|(?<=\S)\*+(?!\w)"), ""),
    (re.compile(r"(?<!\w)_+(?=\S)|(?<=\S)_+(?!\w)"), ""),
    (re.compile(r"\s\|\s"), ", "),  # cells of a table without a frame
)
# A formula in dollars has no space inside of them, and no digit behind: "$5 and $6" is none.
_FORMULA = re.compile(r"\$\$(.+?)\$\$|(?<![\w$\\])\$(?=\S)([^$]*[^$\s\\])\$(?!\d)|\\\((.*?)\\\)|\\\[(.*?)\\\]")
_SAYABLE = re.compile(r"-?\d+(?:[.,]\d+)*(?: ?%)?|[A-Za-z]")
_PRODUCT = re.compile(r"(?<=[\w)])\s*\*\s*(?=[\d(])|(?<=\d)\s*\*\s*(?=\w)")


def plain(sentence: str) -> str:
    """Return a sentence of Markdown as plain text in one line; empty where nothing of it can be said.

    Inline code is its text. Formulas are left out, unless they are a number or a letter.
    """
    parts: list[str] = []
    end = 0
    for code in _CODE.finditer(sentence):
        parts += [_cleaned(sentence[end : code.start()]), code[2].strip()]
        end = code.end()
    parts.append(_cleaned(sentence[end:]))
    return _tidy("".join(parts))


def _cleaned(text: str) -> str:
    text = _FORMULA.sub(_formula, text)
    text = _ESCAPED.sub(lambda found: chr(_HELD_FROM + ord(found[1])), text)
    text = _PRODUCT.sub(" × ", text)
    for pattern, instead in _RULES:
        text = pattern.sub(instead, text)
    text = html.unescape(text.replace("`", ""))
    text = _HOST.sub(_host, _EMAIL.sub("", text))
    text = _SMILEY.sub("", _EMOJI.sub("", _KEYCAP.sub(r"\1", text)))
    text = _ARROW.sub(", ", text)
    return _HELD.sub(lambda found: chr(ord(found[0]) - _HELD_FROM), text)


def _formula(found: re.Match[str]) -> str:
    inner = next(group for group in found.groups() if group is not None).strip()
    return inner if _SAYABLE.fullmatch(inner) else " "


def _host(found: re.Match[str]) -> str:
    """Return the host of an address, and what ends the sentence behind it."""
    host = found[1].rstrip(".,;!?…")
    whole = found[0]
    behind = whole[len(whole.rstrip(".,;:!?…)]")) :]
    if ")" in behind and "(" in whole:
        behind = behind.partition(")")[2]
    return host.lower().removeprefix("www.") + behind


def _tidy(text: str) -> str:
    """Return a text with single spaces, none in front of a point, and no brackets or commas around nothing."""
    text = " ".join(text.split())
    text = re.sub(r"\(\s*\)|\[\s*\]", "", text)
    text = re.sub(r"\s+(?=[.,;!?](?:\s|$))", "", text)
    text = re.sub(r"^[\s,;:]+|(?<=[,;:])(?:\s*,)+", "", text)
    text = " ".join(text.split())
    return text if any(c.isalnum() for c in text) else ""
