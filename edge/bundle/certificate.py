"""A bundle's certificate as this runtime reads it: figures for people, golden tokens to replay; the file is untrusted.

Certificates of older exporters have less in them, and those of newer ones more: what is not there is None, what is not
known is passed by. What is there is checked, kind by kind.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge.bundle import strict_json
from edge.bundle.bundle import read_small
from edge.bundle.manifest import CERTIFICATE, AnyManifest, Manifest, VoiceManifest
from edge.errors import BundleError

GOLDEN_FORMAT: Final = 1

MAX_PROMPTS: Final = 8
MAX_STEPS: Final = 128  # of one prompt
MAX_TOP: Final = 64  # logits of one step
MAX_POSITIONS: Final = 4096  # of one prompt
MAX_TEXT: Final = 4000  # characters of one piece
MAX_SIDE_PX: Final = 2048
_MAX_LOGIT = 1e6
_MAX_MISSED = 32
_MAX_WORDS = 500  # characters


@dataclass(frozen=True)
class GoldenImage:
    """The test image of a size, `edge.engine.golden.test_image`, and the positions it takes."""

    width_px: int
    height_px: int
    n_tokens: int


@dataclass(frozen=True)
class GoldenPiece:
    """A piece of a prompt: an image; or text and its ids; or, without text, the ids of control tokens."""

    ids: tuple[int, ...]
    text: str | None
    image: GoldenImage | None


@dataclass(frozen=True)
class GoldenStep:
    """The token that was chosen, the largest logits with their ids, the logarithm of the sum of all exponentials."""

    token: int
    ids: tuple[int, ...]
    logits: tuple[float, ...]
    log_total: float


@dataclass(frozen=True)
class GoldenPrompt:
    """A prompt and the greedy answer to it."""

    pieces: tuple[GoldenPiece, ...]
    steps: tuple[GoldenStep, ...]


@dataclass(frozen=True)
class Spread:
    """KL, in nats, of the same tokens scored by reading them and by steps."""

    kl_mean: float
    kl_std: float
    kl_max: float
    positions: int


@dataclass(frozen=True)
class Noise:
    """What rounding alone does: to the golden tokens, and to all that the certificate measured in both ways."""

    golden: Spread
    all: Spread


@dataclass(frozen=True)
class Golden:
    """What a bundle computed when it was certified, to be computed again on another device."""

    format: int
    prompts: tuple[GoldenPrompt, ...]
    noise: Noise

    @property
    def n_steps(self) -> int:
        """How many tokens there are in all."""
        return sum(len(prompt.steps) for prompt in self.prompts)


@dataclass(frozen=True)
class Certificate:
    """level: quick or full; kl_mean, top1: over all positions; missed: the thresholds that are not reached, in words.

    kinds: mean KL by kind of text. int8_kl_mean, int8_kl_p99, int8_top1: of a cache of 8 bits, against the same bundle
    with a float32 one. machine, versions: of who certified.
    """

    level: str | None
    positions: int | None
    kl_mean: float | None
    top1: float | None
    kinds: Mapping[str, float]
    missed: tuple[str, ...]
    machine: Mapping[str, object]
    versions: Mapping[str, object]
    golden: Golden | None
    int8_kl_mean: float | None = None
    int8_kl_p99: float | None = None
    int8_top1: float | None = None


def read(folder: Path, manifest: AnyManifest) -> Certificate | None:
    """The certificate of a bundle's folder, None where there is none.

    Raises: BundleError naming the file, and the key that is not what it should be.
    """
    path = Path(folder) / CERTIFICATE
    try:
        data = read_small(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from error
    return parse(data, manifest, file=str(path))


def parse(data: bytes, manifest: AnyManifest, *, file: str = CERTIFICATE) -> Certificate:
    """A certificate from the bytes of its file. Raises: BundleError naming file and key."""
    document = strict_json.load(data, file=file)
    kl, sets = _mapping(document.get("kl")), _mapping(document.get("sets"))
    int8 = _mapping(_mapping(document.get("int8_cache")).get("to_float32"))
    means = {str(name)[:20]: _number(_mapping(_mapping(each).get("kl")).get("mean")) for name, each in sets.items()}
    return Certificate(
        level=_words(document.get("level")),
        positions=value if type(value := document.get("positions")) is int else None,
        kl_mean=_number(kl.get("mean")),
        top1=_number(document.get("top1_agreement")),
        kinds={name: mean for name, mean in means.items() if mean is not None},
        missed=tuple(_missed(document.get("missed", []), file)),
        machine=_mapping(document.get("machine")),
        versions=_mapping(document.get("versions")),
        golden=_golden(document.get("golden"), manifest, file),
        int8_kl_mean=_number(_mapping(int8.get("kl")).get("mean")),
        int8_kl_p99=_number(_mapping(int8.get("kl")).get("p99")),
        int8_top1=_number(int8.get("top1_agreement")),
    )


def _golden(value: object, manifest: AnyManifest, file: str) -> Golden | None:
    """The golden tokens, None where there are none. Raises: BundleError."""
    if value is None:
        return None
    if isinstance(manifest, VoiceManifest):
        raise BundleError(f"{file}: golden: expected none for a voice")
    found = _mapping(value).get("format")
    if found != GOLDEN_FORMAT:
        raise BundleError(f"{file}: golden.format: expected {GOLDEN_FORMAT}, got {found!r:.40}: update this runtime")
    golden = strict_json.read(Golden, value, file=file, key="golden")
    if not isinstance(golden, Golden):
        raise BundleError(f"{file}: golden: expected an object")
    vocab_size = (manifest.text if isinstance(manifest, Manifest) else manifest.speech).vocab_size
    for problem in _problems(golden, vocab_size):
        raise BundleError(f"{file}: golden.{problem}")
    return golden


def _problems(golden: Golden, vocab_size: int) -> Iterator[str]:
    """Yield what is out of bounds."""
    if not 1 <= len(golden.prompts) <= MAX_PROMPTS:
        yield f"prompts: expected 1 to {MAX_PROMPTS}, got {len(golden.prompts)}"
    for part, spread in (("golden", golden.noise.golden), ("all", golden.noise.all)):
        if not min(spread.kl_mean, spread.kl_std, spread.kl_max) >= 0:
            yield f"noise.{part}: expected numbers of at least 0"
    for n, prompt in enumerate(golden.prompts):
        for problem in (*_piece_problems(prompt, vocab_size), *_step_problems(prompt, vocab_size)):
            yield f"prompts[{n}].{problem}"


def _piece_problems(prompt: GoldenPrompt, vocab_size: int) -> Iterator[str]:
    n_positions = 0
    for n, piece in enumerate(prompt.pieces):
        image = piece.image
        if image is None:
            n_positions += len(piece.ids)
            if not piece.ids or len(piece.text or "") > MAX_TEXT:
                yield f"pieces[{n}]: expected ids, and at most {MAX_TEXT} characters"
            elif not all(0 <= token < vocab_size for token in piece.ids):
                yield f"pieces[{n}].ids: expected ids below {vocab_size}"
            continue
        n_positions += max(0, image.n_tokens)
        if piece.ids or piece.text is not None:
            yield f"pieces[{n}]: expected an image, or ids and text"
        elif not (1 <= image.width_px <= MAX_SIDE_PX and 1 <= image.height_px <= MAX_SIDE_PX and image.n_tokens > 0):
            yield f"pieces[{n}].image: expected sides of 1 to {MAX_SIDE_PX} px, and n_tokens"
    if not 1 <= n_positions <= MAX_POSITIONS:
        yield f"pieces: expected 1 to {MAX_POSITIONS} positions, got {n_positions}"


def _step_problems(prompt: GoldenPrompt, vocab_size: int) -> Iterator[str]:
    if not 1 <= len(prompt.steps) <= MAX_STEPS:
        yield f"steps: expected 1 to {MAX_STEPS}, got {len(prompt.steps)}"
    for n, step in enumerate(prompt.steps):
        if not 1 <= len(step.ids) <= MAX_TOP or len(step.ids) != len(step.logits):
            yield f"steps[{n}]: expected 1 to {MAX_TOP} ids and as many logits"
        elif not all(0 <= token < vocab_size for token in (step.token, *step.ids)):
            yield f"steps[{n}]: expected ids below {vocab_size}"
        elif len(set(step.ids)) != len(step.ids):
            yield f"steps[{n}].ids: an id is given twice"
        elif not all(abs(value) <= _MAX_LOGIT for value in (*step.logits, step.log_total)):
            yield f"steps[{n}]: expected logits of at most {_MAX_LOGIT:g}"
        elif max(step.logits) > step.log_total + 1e-3:
            yield f"steps[{n}].log_total: expected no less than the largest logit"


def _missed(value: object, file: str) -> Iterator[str]:
    if not isinstance(value, list) or len(value) > _MAX_MISSED:
        raise BundleError(f"{file}: missed: expected a list of at most {_MAX_MISSED} sentences")
    for sentence in value:
        if not isinstance(sentence, str) or len(sentence) > _MAX_WORDS:
            raise BundleError(f"{file}: missed: expected sentences of at most {_MAX_WORDS} characters")
        yield sentence


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _words(value: object) -> str | None:
    return value[:_MAX_WORDS] if isinstance(value, str) else None
