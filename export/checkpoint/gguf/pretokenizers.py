"""How text is cut into words before the merges, by the names of `tokenizer.ggml.pre`.

The names and what belongs to each are llama.cpp's (src/llama-vocab.cpp); the patterns are the originals that its
comments quote, in the syntax of the `tokenizers` library.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from export.errors import UnsupportedError

_GPT2: Final = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_REST: Final = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SHORT: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_LLAMA3: Final = rf"{_SHORT}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_REST}"
_QWEN2: Final = rf"{_SHORT}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_REST}"
_UPPER: Final = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER: Final = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED: Final = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_TEKKEN: Final = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*|\p{{N}}|{_CASED}"
_GPT4O: Final = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_SHORT}?|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_SHORT}?"
    rf"|\p{{N}}{{1,3}}|{_CASED}"
)


@dataclass(frozen=True)
class PreTokenizer:
    """patterns: each cuts the pieces that the one before it left; whole_words: a word that is a token needs no merges.

    add_bos: whether prompts begin with the token for that where the file does not say.
    """

    patterns: tuple[str, ...]
    whole_words: bool = False
    add_bos: bool = False


_LLAMA_BPE: Final = PreTokenizer((_LLAMA3,), whole_words=True, add_bos=True)
# tiktoken takes a word that is a token as it is; llama.cpp merges, which comes to the same.
_CL100K: Final = PreTokenizer((_LLAMA3,), whole_words=True)
_DIGITS: Final = PreTokenizer((r"\p{N}", _GPT2))
_PLAIN: Final = PreTokenizer((_GPT2,))
_ONE_DIGIT: Final = PreTokenizer((_QWEN2,))
_DEEPSEEK_CODER: Final = PreTokenizer((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥\u0800-一가-\ud7ff]+", r"\p{N}"))

_BY_NAME: Final[Mapping[str, PreTokenizer]] = {
    **dict.fromkeys(
        ("llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"), _LLAMA_BPE
    ),
    **dict.fromkeys(("dbrx", "smaug-bpe"), _CL100K),
    **dict.fromkeys(
        ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"), _DIGITS
    ),
    **dict.fromkeys(
        ("gpt-2", "phi-2", "mpt", "olmo", "jais", "gigachat", "a.x-4.0", "mellum", "exaone4", "trillion"), _PLAIN
    ),
    **dict.fromkeys(
        ("qwen2", "deepseek-r1-qwen", "kormo", "megrez", "stablelm2", "hunyuan", "solar-open", "grok-2"), _ONE_DIGIT
    ),
    "tekken": PreTokenizer((_TEKKEN,), whole_words=True, add_bos=True),
    **dict.fromkeys(("gpt-4o", "llama4", "kanana2"), PreTokenizer((_GPT4O,))),
    "deepseek-coder": _DEEPSEEK_CODER,
}  # fmt: skip


def pre_tokenizer(name: str, *, file: str) -> PreTokenizer:
    """The pre-tokenizer of a name. Raises: UnsupportedError, naming it and those that are supported."""
    if name not in _BY_NAME:
        known = ", ".join(sorted(_BY_NAME))
        raise UnsupportedError(f"{file}: tokenizer.ggml.pre is {name!r}: not supported, expected one of {known}")
    return _BY_NAME[name]
