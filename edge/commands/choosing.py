"""Which bundle a command asks: the one that is named, else the first that supports what is needed."""

import sys
from collections.abc import Collection
from typing import TYPE_CHECKING, Literal

from edge.bundle.manifest import Manifest
from edge.commands.console import fail

if TYPE_CHECKING:
    from pathlib import Path

    from edge.bundle.store import Stored

Ability = Literal["images", "audio", "boxes"]

_KINDS: dict[str, Ability] = {"image": "images", "video": "images", "pdf": "images", "audio": "audio"}
_LACKS = {
    "images": "does not accept images, videos or PDFs",
    "audio": "does not accept audio",
    "boxes": "is not trained to locate things",
}


def needed(kinds: Collection[str]) -> set[Ability]:
    """Return what a bundle needs for these kinds of media: image, video, pdf, audio."""
    return {_KINDS[kind] for kind in kinds}


def chosen(name: str | None, needs: Collection[Ability]) -> "Stored":
    """Return the bundle to ask; one that is passed by, or cannot be used, is told on stderr.

    name: id, alias or folder of a bundle, None for the first that has what is needed. Ends the command with what is
    lacking, and who has it. Raises: UnknownModelError, BundleError.
    """
    from edge.bundle import store
    from edge.models import find

    if name is None:
        tell_unusable()
    installed = store.bundles()
    if name is not None:
        stored = find(name, {})
    elif installed:
        stored = installed[0]
    else:
        fail("no bundle is installed: edge models install DIR")
    missing = lacking(stored, needs)
    if not missing:
        return stored
    able = [other for other in installed if not lacking(other, needs)]
    if name is None and able:
        print(f"edge: {stored.id} {_LACKS[missing[0]]}: using {able[0].id}", file=sys.stderr)
        return able[0]
    if missing == ["boxes"]:
        return stored  # what it answers is shown, and that there is no box in it
    fail(why_not(stored, needs))


def tell_unusable(*, used: "Path | None" = None) -> None:
    """Say on stderr which folders of the models folder cannot be used, and why. used: one that is named by its path."""
    from edge.bundle import store

    for path, reason in store.broken():
        if path != used:
            print(f"edge: {path.name} cannot be used: {reason}", file=sys.stderr)


def why_not(stored: "Stored", needs: Collection[Ability]) -> str:
    """Return what a bundle lacks and the way out, in one sentence; empty when it lacks nothing."""
    from edge.bundle import store

    missing = lacking(stored, needs)
    if not missing:
        return ""
    said = f"{stored.id} {_LACKS[missing[0]]}"
    able = [other.id for other in store.bundles() if not lacking(other, needs)]
    if able:
        return f"{said}; installed bundles that do: {', '.join(able)}: --model {able[0]}"
    if missing[0] != "audio":
        return f"{said}, and no other installed bundle does: edge models install DIR"
    speech = [other.id for other in store.bundles("speech")]
    way = f"edge models speech {stored.id} {speech[0] if speech else 'SPEECH-BUNDLE'}"
    first = "" if speech else "no speech-to-text model is installed: edge models install DIR, then "
    return f"{said}; {first}{way}" if first else f"{said}; to transcribe it with {speech[0]}: {way}"


def accepted(stored: "Stored") -> list[str]:
    """Return what a bundle can be asked about, by its own towers or its speech-to-text model."""
    images = ["images", "videos", "PDFs"] if _has(stored, "images") else []
    return ["text", *images, *(["audio"] if _has(stored, "audio") else [])]


def lacking(stored: "Stored", needs: Collection[Ability]) -> list[Ability]:
    """Return what a bundle lacks of what is needed."""
    return [ability for ability in ("images", "audio", "boxes") if ability in needs and not _has(stored, ability)]


def _has(stored: "Stored", ability: Ability) -> bool:
    from edge.bundle import store

    manifest = stored.manifest
    if not isinstance(manifest, Manifest):
        return False
    if ability == "audio":
        return manifest.audio is not None or store.speech_model(stored.id) is not None
    if ability == "boxes":
        return manifest.vision is not None and not stored.embedded
    return manifest.vision is not None
