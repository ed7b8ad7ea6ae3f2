"""Whether the runtime reads a tokenizer, asked while an export is planned and not when its certificate is made."""

from edge.engine.tokenizer import Tokenizer
from edge.errors import BundleError
from export.checkpoint.tokenizer import TOKENIZER, TokenizerFiles
from export.errors import TokenizerError


def check_tokenizer(files: TokenizerFiles, *, vocab_size: int) -> None:
    """Open a tokenizer as the runtime does. Raises: TokenizerError with the runtime's reason."""
    try:
        Tokenizer.parse(files.tokenizer_json, control=files.control, vocab_size=vocab_size, file=TOKENIZER)
    except BundleError as error:
        raise TokenizerError(str(error)) from error
