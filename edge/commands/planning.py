"""What `edge plan` finds out: a model's memory and speed on a machine, before it is loaded or downloaded."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from edge.bundle import checkpoint_shape, hub, shape, store
from edge.bundle.bundle import MAX_MANIFEST_BYTES
from edge.bundle.hub import Listing
from edge.bundle.manifest import MANIFEST, AnyManifest, Manifest, VoiceManifest
from edge.bundle.recipes import DEFAULT, RECIPES
from edge.bundle.shape import ModelShape
from edge.engine.available import memory
from edge.engine.boards import board, rates_of
from edge.engine.footprint import KVS, Footprint, Load, alternatives, footprint, largest_context, room
from edge.engine.kv import Kv
from edge.engine.packing import is_packed
from edge.engine.rates import Rates, kind_of, load_s, read_s, step_s, tile_s, tower_load_s
from edge.errors import HubError, UnknownModelError, UnsupportedError
from edge.models import find

_PROMPTS = (64, 512, 2048)  # tokens
_POSITIONS = (256, 1024, 4096, 8192, 16384)


@dataclass(frozen=True)
class Target:
    """What is planned for.

    packed: the kvs of the engines that have packed weights on this device; config: of a checkpoint, whose recipe is
    open, else None.
    """

    shape: ModelShape
    where: str
    packed: frozenset[Kv] = frozenset()
    config: Mapping[str, object] | None = None


@dataclass(frozen=True)
class Machine:
    """A machine: its memory in bytes, what of it a model may take, its rates, and where the figures come from."""

    name: str
    total_bytes: int
    room_bytes: int
    rates: Rates
    source: str


@dataclass(frozen=True)
class Forecast:
    """How fast a model will be, in seconds and tokens per second.

    load_s_cached, load_s_cold: until text can be answered, files in the page cache or on the disk; tower_load_s: of the
    vision tower's first use; tile_s, image_s: of a tile and of the largest image; first_with_image_s: to the first
    token of a question about that; these are None without a vision tower. first_s: to the first token, by tokens of a
    prompt; decode_per_s: by position.
    """

    load_s_cached: float
    load_s_cold: float
    tower_load_s: float | None
    tile_s: float | None
    image_s: float | None
    first_with_image_s: float | None
    first_s: Mapping[int, float]
    decode_per_s: Mapping[int, float]


@dataclass(frozen=True)
class Plan:
    """A load on a machine, and others that would fit; recipes: those with which a checkpoint would fit."""

    target: Target
    machine: Machine
    footprint: Footprint
    others: tuple[Load, ...]
    recipes: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether there is room for everything that a step touches."""
        return self.footprint.needed_bytes <= self.machine.room_bytes

    @property
    def forecast(self) -> Forecast:
        """How fast it will be."""
        return forecast(self.target.shape, self.machine.rates, self.footprint.load)


def target(name: str | None, *, recipe: str | None) -> Target:
    """Find what a name means: an installed bundle, a folder with a bundle or a checkpoint, a hub's repository.

    Of a repository its manifest.json, or its config.json, is all that is downloaded.
    Raises: EdgeError: UnknownModelError, BundleError, HubError, UnsupportedError, ParameterError.
    """
    if name is None:
        stored = next(iter(store.bundles()), None)
        if stored is None:
            raise UnknownModelError("no bundle is installed: name a bundle, a checkpoint or a repository")
        return _of_manifest(stored.manifest, str(stored.path))
    folder = Path(name).expanduser()
    if folder.suffix == ".gguf" or (folder.is_file() and folder.name != checkpoint_shape.CONFIG):
        raise UnsupportedError(
            f"{name}: edge plan reads manifest.json and config.json; edge-export tells a GGUF's sizes"
        )
    config = folder if folder.name == checkpoint_shape.CONFIG else folder / checkpoint_shape.CONFIG
    if config.is_file() and not (folder / MANIFEST).exists():
        return _of_checkpoint(config, recipe)
    repository = hub.named(name)
    try:
        stored = find(name, {}, kind=None)
    except UnknownModelError:
        if repository is None:
            raise
        return _of_repository(repository, recipe)
    return _of_manifest(stored.manifest, str(stored.path))


def this_machine(target: Target, *, threads: int | None) -> Machine:
    """Measure this machine with the kinds of products that a model needs."""
    from edge.commands.machine import this_cpu
    from edge.engine.probe import measure

    found = target.shape
    products = [] if found.vision is None else [product.matrix for product in found.vision.products]
    kinds = {kind_of(matrix.scheme) for matrix in (*found.decoder, *products)}
    rates = measure(threads=threads, kinds=tuple(sorted(kinds)))
    here = memory()
    limited = f", limited by {here.limited_by}" if here.limited_by else ""
    source = f"measured now with {rates.threads} threads{limited}"
    return Machine(this_cpu(), here.total, min(room(here.total), here.available), rates, source)


def other_machine(machine: Machine, *, total_bytes: int | None, bandwidth: float | None) -> Machine:
    """Return a machine with another memory, or another bandwidth, that computes as the given one does."""
    from edge.engine.probe import with_bandwidth

    changed = [] if bandwidth is None else [f"{bandwidth / 1e9:g} GB/s"]
    rates = machine.rates if bandwidth is None else with_bandwidth(machine.rates, bandwidth)
    total, room_bytes = machine.total_bytes, machine.room_bytes
    if total_bytes is not None:
        total, room_bytes = total_bytes, room(total_bytes)
        changed.append(f"{total_bytes / 1e9:.1f} GB")
    name = f"a machine with {' and '.join(changed)} that computes as {machine.name}" if changed else machine.name
    return Machine(name, total, room_bytes, rates, machine.source)


def of_board(name: str) -> Machine:
    """Return a board. Raises: ParameterError."""
    found = board(name)
    source = "published figures, not measured by this project"
    return Machine(found.name, found.memory, room(found.memory), rates_of(found), source)


def plan(target: Target, machine: Machine, load: Load, *, context: int | None) -> Plan:
    """Plan a load. context: positions of each slot; None for the most that fit, and the model's where none do."""
    found, room_bytes = target.shape, machine.room_bytes
    if context is None:
        context = largest_context(found, load, room_bytes=room_bytes) or min(found.text.context, 2048)
    load = replace(load, context=min(context, found.text.context))
    made = footprint(found, load)
    others = () if made.needed_bytes <= room_bytes else tuple(alternatives(found, load, room_bytes=room_bytes))
    recipes = () if target.config is None else tuple(_fitting(target, load, room_bytes))
    return Plan(target, machine, made, others, recipes)


def forecast(found: ModelShape, rates: Rates, load: Load) -> Forecast:
    """Return what a model does at a machine's rates."""
    tile = None if found.vision is None else tile_s(found.vision, rates)
    image = question = None
    if found.vision is not None and tile is not None:
        image = found.vision.n_max * tile
        question = image + read_s(found, rates, _PROMPTS[0] + found.vision.n_max * found.vision.tokens, kv=load.kv)
    prompts = [n for n in _PROMPTS if n < load.context] or [load.context]
    positions = [n for n in _POSITIONS if n <= load.context] or [load.context]
    return Forecast(
        load_s(found, rates, packed=load.packed, cold=False), load_s(found, rates, packed=load.packed, cold=True),
        None if found.vision is None else tower_load_s(found.vision, rates, packed=load.packed),
        tile, image, question, {n: read_s(found, rates, n, kv=load.kv) for n in prompts},
        {n: 1 / step_s(found, rates, position=n, kv=load.kv) for n in positions},
    )  # fmt: skip


def figures(plan: Plan) -> dict[str, object]:
    """Return a plan as JSON: bytes, seconds, tokens per second. Keys keep their names and units."""
    found, rates, load = plan.target.shape, plan.machine.rates, plan.footprint.load
    told = plan.forecast
    return {
        "model": found.id,
        "recipe": found.recipe,
        "from": plan.target.where,
        "machine": plan.machine.name,
        "figures": plan.machine.source,
        "context": load.context,
        "slots": load.slots,
        "kv": load.kv,
        "packed": load.packed,
        "disk_bytes": sum(found.files.values()),
        "memory": [{"part": p.name, "bytes": p.n_bytes, "mapped": p.mapped} for p in plan.footprint.parts],
        "anonymous_bytes": plan.footprint.anonymous_bytes,
        "mapped_bytes": plan.footprint.mapped_bytes,
        "needed_bytes": plan.footprint.needed_bytes,
        "peak_bytes": plan.footprint.peak_bytes,
        "machine_bytes": plan.machine.total_bytes,
        "room_bytes": plan.machine.room_bytes,
        "fits": plan.fits,
        "would_fit": [
            {"context": each.context, "slots": each.slots, "kv": each.kv, "packed": each.packed} for each in plan.others
        ],
        "recipes_that_fit": list(plan.recipes) if plan.target.config is not None else None,
        "bandwidth_GB_per_s": rates.bandwidth / 1e9,
        "load_s": {"cached": told.load_s_cached, "cold": told.load_s_cold, "vision": told.tower_load_s},
        "seconds_per_tile": told.tile_s,
        "seconds_per_image": told.image_s,
        "first_token_s": {str(n): value for n, value in told.first_s.items()},
        "first_token_with_image_s": told.first_with_image_s,
        "decode_tokens_per_s": {str(n): value for n, value in told.decode_per_s.items()},
    }


def _of_manifest(manifest: AnyManifest, where: str) -> Target:
    if not isinstance(manifest, Manifest):
        what = "text into audio" if isinstance(manifest, VoiceManifest) else "audio into text"
        raise UnsupportedError(f"{manifest.id} turns {what}: edge plan counts what chat bundles take")
    folder = Path(where)
    packed = frozenset(kv for kv in KVS if folder.is_dir() and is_packed(folder, kv=kv))
    return Target(shape.of_manifest(manifest), where, packed=packed)


def _of_checkpoint(config: Path, recipe: str | None) -> Target:
    found = checkpoint_shape.read_config(config)
    tokenizer = config.with_name("tokenizer.json")
    n_bytes = tokenizer.stat().st_size if tokenizer.is_file() else None
    name = config.absolute().parent.name
    made = checkpoint_shape.of_config(found, recipe=recipe or DEFAULT, name=name, tokenizer_bytes=n_bytes)
    return Target(made, str(config.parent), config=found)


def _of_repository(repository: hub.Repository, recipe: str | None) -> Target:
    """Look at a repository: a manifest where it is a bundle, else the configuration of a checkpoint."""
    with tempfile.TemporaryDirectory(prefix="edge-plan-") as scratch:
        if hub.is_offline():
            return _in_folder(hub.cached_folder(repository), repository, recipe)
        listing = hub.listing(repository)
        name = next((name for name in (MANIFEST, checkpoint_shape.CONFIG) if name in listing.files), None)
        if name is None:
            raise HubError(f"{repository} has neither {MANIFEST} nor {checkpoint_shape.CONFIG}: nothing to plan for")
        _download(listing, name, Path(scratch))
        return _in_folder(Path(scratch), repository, recipe)


def _download(listing: Listing, name: str, folder: Path) -> None:
    file = hub.sized(listing, name)
    if (file.n_bytes or 0) > MAX_MANIFEST_BYTES:
        raise HubError(f"{listing.repository}: {name}: expected at most {MAX_MANIFEST_BYTES} bytes")
    hub.download(listing, file, folder / name)


def _in_folder(folder: Path, repository: hub.Repository, recipe: str | None) -> Target:
    if (folder / MANIFEST).is_file():
        return _of_manifest(store.read_manifest(folder), str(repository))
    if not (folder / checkpoint_shape.CONFIG).is_file():
        raise HubError(f"{repository} has neither {MANIFEST} nor {checkpoint_shape.CONFIG}: nothing to plan for")
    found = checkpoint_shape.read_config(folder / checkpoint_shape.CONFIG)
    made = checkpoint_shape.of_config(found, recipe=recipe or DEFAULT, name=repository.name)
    return Target(made, str(repository), config=found)


def _fitting(target: Target, load: Load, room_bytes: int) -> list[str]:
    """Return the recipes with which a checkpoint fits, at the load that is planned: for a GPU, or for the CPU."""
    fitting = []
    for recipe in RECIPES:
        made = checkpoint_shape.of_config(target.config or {}, recipe=recipe, name="")
        is_alike = made.activations == target.shape.activations
        if is_alike and footprint(made, load).needed_bytes <= room_bytes:
            fitting.append(recipe)
    return fitting
