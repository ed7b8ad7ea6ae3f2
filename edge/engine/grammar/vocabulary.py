"""A vocabulary as llguidance reads it: tokens as bytes, and how text becomes some of them."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llguidance import LLTokenizer


def vocabulary(
    pieces: Sequence[bytes],
    special: Sequence[int],
    end_ids: Sequence[int],
    *,
    encode: Callable[[str], list[int]] | None,
) -> "LLTokenizer":
    """Return tokens as llguidance has them: the bytes of each, those that are no text, those that end an answer.

    encode: how text becomes tokens; None where every byte is a token of its own.
    """
    from llguidance import LLTokenizer, TokenizerWrapper

    wrapped = TokenizerWrapper(_Vocabulary(pieces, special, end_ids, encode))
    return LLTokenizer(wrapped, eos_token=[*end_ids])


class _Vocabulary:
    """Tokens and how text becomes some of them, in the shape that llguidance reads."""

    bos_token_id: int | None = None

    def __init__(
        self,
        pieces: Sequence[bytes],
        special: Sequence[int],
        end_ids: Sequence[int],
        encode: Callable[[str], list[int]] | None,
    ) -> None:
        self.tokens = [*pieces]
        self.special_token_ids = [*special]
        self.eos_token_id = end_ids[0]
        self._encode = encode

    def __call__(self, text: str) -> list[int]:
        """Encode text. Raises: AttributeError for bytes, by which llguidance learns that it must not pass any."""
        return [*text.encode()] if self._encode is None else self._encode(text)
