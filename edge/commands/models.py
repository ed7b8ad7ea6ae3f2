"""edge models: list, show, verify, install, download, remove and select bundles, voices among them."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from edge.bundle.manifest import Manifest, SpeechManifest, VoiceManifest
from edge.commands import voices
from edge.commands.certified import Found, figures, replayed, warn, words
from edge.commands.choosing import tell_unusable
from edge.commands.console import AsJson, fail
from edge.commands.packing import Pack, after_install, described, pack, problems
from edge.errors import BundleError, UnknownModelError

if TYPE_CHECKING:
    from edge.bundle.store import Stored

_COVER = "the digest that covers them is kept for what `edge models install` installs"

License = Annotated[str | None, typer.Option("--license", help="The licence of a voice whose files do not state it.")]

models = typer.Typer(no_args_is_help=True, help="Manage the installed bundles.")


@models.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List the bundles on this device, the default first."""
    import json

    from rich.console import Console
    from rich.table import Table

    from edge.bundle import store

    bundles = store.bundles(None)
    if as_json:
        print(json.dumps([_described(stored) for stored in bundles], indent=1))
    else:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in ("ID", "ALIASES", "RECIPE", "MB", "ACCEPTS", "WHERE"):
            table.add_column(heading, justify="right" if heading == "MB" else "left", overflow="fold")
        for stored in bundles:
            mark = " (default)" if stored.id in (store.default_id(), store.default_voice_id()) else ""
            takes = ", ".join(_taken(stored))
            where = "embedded" if stored.embedded else "installed"
            aliases, megabytes = ", ".join(stored.manifest.aliases), f"{stored.n_bytes / 1e6:.1f}"
            table.add_row(stored.id + mark, aliases, _recipe(stored), megabytes, takes, where)
        Console().print(table)
    tell_unusable()


@models.command()
def info(name: Annotated[str, typer.Argument(help="Id, alias or folder.")], as_json: AsJson = False) -> None:
    """Show a bundle's properties and source."""
    import json

    from edge.models import find

    stored = find(name, {}, kind=None)
    described = _described(stored)
    if as_json:
        print(json.dumps(described, indent=1))
        return
    certified = described.pop("certificate")
    for key, value in described.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        print(f"{key + ':':<22} {'' if shown is None else shown}".rstrip())
    if stored.kind != "voice":
        print(f"{'certificate:':<22} {words(certified)}")
    warn(stored)


@models.command()
def verify(
    name: Annotated[str, typer.Argument(help="Id, alias or folder.")],
    deep: Annotated[
        bool,
        typer.Option("--deep", help="Read packed weights too, and compute the golden tokens again; a voice speaks."),
    ] = False,
) -> None:
    """Read every byte of a bundle and compare it with the manifest; nothing of it is written.

    Of an installed bundle, the manifest and the certificate are compared with what was installed. Packed weights are
    no part of it: damaged ones are removed.
    """
    from edge.bundle import store
    from edge.models import find

    stored = find(name, {}, kind=None)
    found, is_covered = store.verify(stored)
    found += problems(stored) if deep and stored.kind != "voice" else []
    for problem in found:
        print(f"edge: {problem}", file=sys.stderr)
    if found:
        raise typer.Exit(1)
    print(f"{stored.id}: {len(stored.manifest.files)} files, {stored.n_bytes} bytes, all as the manifest says")
    if not is_covered:
        what = "the embedded bundle" if stored.embedded else "a folder"
        print(f"edge: of {what}, manifest.json and certificate.json are not covered: {_COVER}", file=sys.stderr)
    if deep and stored.kind == "voice":
        print(f"{stored.id} {voices.heard(stored)}")
    elif deep:
        replay = _replayed(stored)
        print(f"{stored.id}: {replay.words}", file=sys.stdout if replay.is_good else sys.stderr)
        if not replay.is_good:
            raise typer.Exit(1)


@models.command()
def install(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A bundle, as edge-export makes it; or a voice of Piper or Kokoro.")
    ],
    name: Annotated[str | None, typer.Option("--id", metavar="NAME", help="Another id for the copy.")] = None,
    replaces: Annotated[bool, typer.Option("--replace", help="Replace an installed bundle of this id.")] = False,
    license: License = None,  # noqa: A002
    packs: Pack = True,
) -> None:
    """Copy a bundle into the models folder, verified byte by byte.

    A voice is installed as its makers publish it: NAME.onnx beside NAME.onnx.json of Piper, a folder of Kokoro with its
    graph and speakers. Its licence is shown, and it says a sentence.
    """
    from rich.console import Console
    from rich.progress import Progress

    from edge.bundle import install as installing
    from edge.speech.voice_files import is_upstream

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("copying", total=None)

        def tell(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        if is_upstream(folder):
            stored = voices.install_upstream(folder, id=name, replaces=replaces, license=license, progress=tell)
        elif license is not None:
            fail(f"--license: {folder} is a bundle, whose manifest has its licence")
        else:
            stored = installing.install(folder, id=name, replaces=replaces, progress=tell)
    _installed(stored, packs)


@models.command()
def pull(
    repository: Annotated[str, typer.Argument(metavar="REPO[@REVISION]", help="A hub's repository, ORG/NAME.")],
    name: Annotated[str | None, typer.Option("--id", metavar="NAME", help="Another id for the bundle.")] = None,
    replaces: Annotated[bool, typer.Option("--replace", help="Replace an installed bundle of this id.")] = False,
    voice: Annotated[
        str | None,
        typer.Option("--voice", metavar="NAME", help="A voice of Piper or Kokoro, by its graph's name."),
    ] = None,
    license: License = None,  # noqa: A002
    packs: Pack = True,
) -> None:
    """Download a bundle from a hub, verify every byte and install it; an interrupted download goes on.

    HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE are honoured. With --voice, the repository is one that holds voices as
    their makers publish them: edge models pull rhasspy/piper-voices --voice en_US-joe-medium.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from edge.bundle import pull as pulling

    if voice is None and license is not None:
        fail("--license: expected --voice with it; a bundle's manifest has its licence")

    def tell(line: str) -> None:
        print(f"edge: {line}", file=sys.stderr)

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("downloading", total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        if voice is None:
            stored = pulling.pull(repository, id=name, replaces=replaces, tell=tell, progress=progress)
        else:
            from edge.speech.voice_pull import pull as pull_voice

            stored = pull_voice(
                repository, voice, id=name, license=license, replaces=replaces, tell=tell, progress=progress
            )
    _installed(stored, packs)


def _installed(stored: "Stored", packs: bool) -> None:
    """Say where a bundle is, and do what comes after: a voice is tried, the weights of others are packed."""
    print(f"{stored.id} is installed in {stored.path}")
    if stored.kind == "voice":
        voices.after_install(stored)
        return
    warn(stored)
    after_install(stored, wanted=packs)


@models.command()
def remove(name: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Remove an installed bundle."""
    from edge.bundle import install as installing

    installing.remove(name)
    print(f"{name} is removed")


models.command()(pack)


@models.command()
def default(name: Annotated[str | None, typer.Argument(metavar="[ID]")] = None) -> None:
    """Set the default bundle, which wins names that several share, or the default voice; without ID, show both."""
    from edge.bundle import store

    if name is not None:
        stored = store.set_default(name)
        print(f"{stored.id} is the default{' voice' if stored.kind == 'voice' else ''}")
        return
    print(next((stored.id for stored in store.bundles()), "no bundle is installed"))
    for stored in store.bundles("voice")[:1]:
        print(f"{stored.id} (voice)")


@models.command()
def speech(
    name: Annotated[str, typer.Argument(metavar="CHAT", help="Id or alias of a chat bundle.")],
    chosen: Annotated[str | None, typer.Argument(metavar="[SPEECH]", help="Id of a speech bundle.")] = None,
    none: Annotated[bool, typer.Option("--none", help="Remove the setting.")] = False,
) -> None:
    """Set the speech-to-text model of a chat bundle; without SPEECH, show it."""
    from edge.bundle import store

    if chosen is not None and none:
        fail("SPEECH and --none: expected one of them")
    if chosen is not None or none:
        chat, bundle = store.set_speech_model(name, chosen)
        current = None if bundle is None else bundle.id
    else:
        chat = store.named(name)
        current = store.speech_model(chat.id)
    print(
        f"{current} is the speech-to-text model of {chat.id}" if current else f"{chat.id} has no speech-to-text model"
    )


models.command("companion", hidden=True)(speech)  # its former name, for scripts that use it


class _AliasGroup(TyperGroup):
    """The commands of `edge models alias`; NAME=MODEL alone is set, and nothing at all lists."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Put the command in front that is meant."""
        if not args or args[0] == "--json":
            args = ["list", *args]
        elif args[0] not in self.commands and not args[0].startswith("-"):
            args = ["set", *args]
        return super().parse_args(ctx, args)


alias = typer.Typer(cls=_AliasGroup, help="Aliases of models: set NAME=MODEL, list, remove NAME.")
models.add_typer(alias, name="alias")


@alias.command("set")
def set_alias(
    pairs: Annotated[list[str], typer.Argument(metavar="NAME=MODEL...", help="MODEL is an id or an alias.")],
) -> None:
    """Set aliases of models, for every program on this device."""
    from edge.bundle import store
    from edge.bundle.aliases import parse

    if len(pairs) == 2 and not any("=" in word for word in pairs):
        pairs = ["=".join(pairs)]
    added = parse(",".join(pairs), field="alias")
    for name, stored in store.set_aliases(added).items():
        print(f"{name} is an alias of {added[name]}: {stored.id}")


@alias.command("list")
def list_aliases(as_json: AsJson = False) -> None:
    """List the aliases and their bundles: those of EDGE_ALIAS, then the stored ones."""
    import json

    rows = list(_aliased())
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    for row in rows:
        answers = row["answers"] or "not installed"
        print(f"{row['name']}={row['model']}: {answers} ({row['where']})")
    if not rows:
        print("edge: no alias is set: edge models alias set NAME=MODEL", file=sys.stderr)


@alias.command("remove")
def remove_alias(names: Annotated[list[str], typer.Argument(metavar="NAME...")]) -> None:
    """Remove aliases."""
    from edge.bundle import store

    for name in names:
        store.remove_alias(name)
        print(f"{name} is removed")


def _aliased() -> Iterator[dict[str, str | None]]:
    """Yield every alias with its model, the id of the bundle that answers, None without one, and where it is set."""
    from edge.bundle import aliases, choices, store

    for where, named in ((aliases.VARIABLE, aliases.of_environment()), ("stored", choices.aliases())):
        for name, model in sorted(named.items()):
            answers = None
            with contextlib.suppress(UnknownModelError, BundleError):
                answers = store.named(name, None).id
            yield {"name": name, "model": model, "answers": answers, "where": where}


def _replayed(stored: "Stored") -> Found:
    """Compute the golden tokens of a bundle again, with a bar: of a large model it takes minutes."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("golden tokens", total=None)
        return replayed(stored, progress=lambda done, total: bar.update(task, completed=done, total=total))


def _recipe(stored: "Stored") -> str:
    """Return the name of a bundle's recipe; of a voice, which nobody here quantized, its family."""
    return stored.manifest.family if isinstance(stored.manifest, VoiceManifest) else stored.manifest.recipe.name


def _taken(stored: "Stored") -> list[str]:
    """Name what a bundle reads, or the languages that it speaks."""
    manifest = stored.manifest
    if isinstance(manifest, VoiceManifest):
        return [f"speaks {', '.join(manifest.voice.languages)}"]
    if not isinstance(manifest, Manifest):
        return ["speech"]
    return ["text"] if manifest.vision is None else ["text", "images"]


def _shape(manifest: Manifest | SpeechManifest) -> dict[str, object]:
    """Return a bundle's sizes that people ask for."""
    spec = manifest.text if isinstance(manifest, Manifest) else manifest.speech
    return {
        "context": spec.context,
        "layers": spec.n_layers,
        "hidden_size": spec.hidden_size,
        "vocabulary": spec.vocab_size,
    }


def _described(stored: "Stored") -> dict[str, object]:
    manifest = stored.manifest
    if isinstance(manifest, VoiceManifest):
        return voices.described(stored, manifest)
    return {
        "id": manifest.id,
        "aliases": list(manifest.aliases),
        "path": str(stored.path),
        "packed": described(stored),
        "embedded": stored.embedded,
        "architecture": manifest.source.architecture,
        "recipe": manifest.recipe.name,
        **_shape(manifest),
        "takes": _taken(stored),
        "bytes": stored.n_bytes,
        "weights_bytes": manifest.memory.weights_bytes,
        "cache_bytes_per_token": manifest.memory.cache_bytes_per_token,
        "min_runtime": manifest.min_runtime,
        "repository": manifest.source.repository,
        "revision": manifest.source.revision,
        "ignored": list(manifest.source.ignored),
        "notes": list(manifest.source.notes),
        "certificate": figures(stored),
    }
