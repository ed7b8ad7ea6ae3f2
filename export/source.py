"""From what the command line names to a checkpoint on this disk, and to the recipe, id and folder of its bundle."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from export import pack
from export.build import default_recipe, read_small
from export.checkpoint import hub
from export.checkpoint.config import ModelConfig
from export.checkpoint.hub import Named, Progress, Room, Tell
from export.choices import RECIPE, CertificateLevel
from export.naming import checked_aliases, default_id
from export.plan import plan, scratch_bytes
from export.recipe import Recipe, load


@dataclass(frozen=True)
class Source:
    """A checkpoint that is here, with the projector of a GGUF file, and what its bundle is to be."""

    path: Path
    mmproj: Path | None
    recipe: str
    id: str
    out: Path


def choose(
    checkpoint: str,
    *,
    mmproj: str | None,
    recipe: str | None,
    id: str | None,  # noqa: A002  (the manifest's own word)
    aliases: Sequence[str],
    out: Path | None,
    certificate: CertificateLevel,
    prompt_format: str | None,
    ranks: Path | None,
    tell: Tell,
    progress: Progress,
) -> Source:
    """Download a repository if one is named, and choose what is not given.

    checkpoint, mmproj: a folder, a GGUF file, or a hub's repository; recipe: that of the checkpoint unless given;
    id: NAME-RECIPE unless given; out: ./ID unless given; the others are as for `build`. tell: lines for people;
    progress: bytes that are here, and all.
    Raises: ExportError; what is known beforehand is told before anything large is downloaded.
    """
    named = hub.read_name(checkpoint, tell=tell)
    projector = None if mmproj is None else hub.read_name(mmproj, tell=tell)
    path = named.path
    if path is None and named.file is not None and recipe is None:  # only its header tells
        path = hub.fetch(named, tell=tell, progress=progress)
    recipe = recipe or (default_recipe(path) if path is not None else RECIPE)
    chosen = load(recipe)
    id = id or default_id(named.name, chosen.name)  # noqa: A001
    checked_aliases(id, aliases)
    out = out or Path(id)
    pack.check_out(out)
    if path is None:
        known = (chosen, certificate, prompt_format, ranks)
        room = Room(out, lambda folder, config: _needed_bytes(folder, config, *known))
        path = hub.fetch(named, room=room, tell=tell, progress=progress)
    return Source(path, _projector(projector, tell, progress), recipe, id, out)


def _projector(named: Named | None, tell: Tell, progress: Callable[[int, int], None]) -> Path | None:
    return None if named is None else hub.fetch(named, tell=tell, progress=progress)


def _needed_bytes(
    folder: Path,
    config: ModelConfig,
    recipe: Recipe,
    certificate: CertificateLevel,
    prompt_format: str | None,
    ranks: Path | None,
) -> int:
    """What an export takes on disk beside the checkpoint, known before its weights are there.

    Raises: ExportError for a tokenizer or a chat template that is not supported.
    """
    tokenizer, *_ = read_small(folder, config, ranks, prompt_format)
    scratch = 0 if certificate == "off" else scratch_bytes(config.text, certificate)
    n_bytes = plan(config, recipe, tokenizer_bytes=len(tokenizer.tokenizer_json)).n_bytes
    return int((n_bytes + scratch) * pack.SPARE_SHARE)
