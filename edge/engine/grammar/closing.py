"""A schema as a grammar is made of it: keywords checked, references gathered in `$defs`, objects closed.

An object whose schema has `properties` and says nothing of other keys is closed: a model that may invent keys does. One
that says `additionalProperties: true`, or a schema of them, stays open, and so does one without any properties. Where
several schemas hold at once (allOf, a `$ref` with siblings, anyOf beside properties), what is closed is their
conjunction, over the names of all of them; if one of them speaks of other keys, it stays open.
"""

import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from edge.engine.grammar.disjoint import Comparison, Definition
from edge.engine.grammar.keywords import Node, Where, checked, not_supported

_MAX_STEPS = 50_000  # schemas read, for each scope of each reference anew
_OWN = frozenset({
    "properties", "required", "patternProperties", "additionalProperties", "unevaluatedProperties", "minProperties",
    "maxProperties", "items", "prefixItems", "const", "enum",
})  # fmt: skip
_ITEMS = "\0items"  # stands for the items of an array among names
_CHOICES = ("anyOf", "oneOf")
_MAPS = ("properties", "patternProperties")
_OVERLAP = (
    "oneOf: the schemas in it may overlap, which is not supported: use anyOf, or give each of them a required property "
    "with a const of its own"
)


class Scope(NamedTuple):
    """What becomes of the objects that a schema describes.

    closed: this one, and those in it. open: only those in it, for it is one of several schemas of the same object.
    free: none. extra: names that other schemas of the same object have; shared: those that several of them have.
    """

    kind: Literal["closed", "open", "free"] = "closed"
    extra: frozenset[str] = frozenset()
    shared: frozenset[str] = frozenset()

    def of_value(self, name: str) -> "Scope":
        """Return the scope of a property's value."""
        return _FREE if self.kind == "free" or name in self.shared else Scope()


_FREE = Scope("free")


class _Facts(NamedTuple):
    """What a schema says of an object: its names, and whether it speaks of keys that have none.

    bare: names that are required and have no schema.
    """

    names: frozenset[str] = frozenset()
    is_explicit: bool = False
    bare: frozenset[str] = frozenset()


def closed(schema: Node, where: Where) -> dict[str, object]:
    """Return a schema with nothing but keywords that are supported, its objects closed; it is not changed itself.

    Raises: SchemaError that names the place, the keyword and what to do.
    """
    try:
        return _Reader(schema).whole(where)
    except RecursionError as error:
        raise where.error("expected fewer levels of nested schemas") from error


class _Reader:
    """Reads one schema; `_definitions` are what its references point at, once for each scope."""

    def __init__(self, root: Node) -> None:
        self._root = root
        self._anchors: dict[str, Node] | None = None
        self._names: dict[tuple[int, Scope], str] = {}
        self._waiting: list[tuple[str, Node | bool, Where, Scope]] = []
        self._definitions: dict[str, object] = {}
        self._choices: list[tuple[dict[str, object], object, Where]] = []
        self._n_steps = 0

    def whole(self, where: Where) -> dict[str, object]:
        read = self._object(self._root, where, Scope())
        while self._waiting:
            name, node, place, scope = self._waiting.pop()
            self._definitions[name] = self._schema(node, place, scope)
        if self._definitions:
            read["$defs"] = self._definitions
        comparison = Comparison(self._definitions, self._found)
        for written, given, place in self._choices:
            if not comparison.are_disjoint(_listed(written["oneOf"]), _listed(given)):
                raise place.error(_OVERLAP)
        for written, _, _ in self._choices:
            _choose(written)
        return read

    def _schema(self, node: object, where: Where, scope: Scope) -> object:
        return self._object(node, where, scope) if isinstance(node, Mapping) else node

    def _object(self, node: Node, where: Where, scope: Scope) -> dict[str, object]:
        self._count(where)
        read = checked(node, where)
        if not isinstance(read.get("items"), list):  # then items is of all of them
            read.pop("additionalItems", None)
        rest = read.pop("unevaluatedProperties", None)
        parts = self._parts(read)
        if len(parts) > 1 or (parts and rest is False and _OWN.isdisjoint(read)):
            self._compose(read, where, scope, rest, parts)
        elif parts and _OWN.isdisjoint(read):  # one reference, or one choice: what is here says nothing of its own
            self._go_on(read, where, *[_through(scope, rest, where)] * 2)
        else:
            if rest is not None:
                read.setdefault("additionalProperties", rest)
            self._go_on(read, where, scope, scope)
            if scope.kind == "closed":
                _close(read, scope.extra)
        if "oneOf" in read:
            self._choices.append((read, node["oneOf"], where))
        return read

    def _count(self, where: Where) -> None:
        """Count a step of the reading. Raises: SchemaError when there are too many."""
        self._n_steps += 1
        if self._n_steps > _MAX_STEPS:
            raise where.error("expected a schema with fewer references and schemas that hold at once")

    def _parts(self, read: Node) -> list[_Facts]:
        """Return what each of the schemas says that hold at once here."""
        parts = [] if _OWN.isdisjoint(read) else [self._own_facts(read)]
        for part in _listed(read.get("allOf")):
            parts.append(self._facts(part))
        for key in ("$ref", *_CHOICES):
            if key in read:
                parts.append(self._facts({key: read[key]}))
        return parts

    def _compose(self, read: dict[str, object], where: Where, scope: Scope, rest: object, parts: list[_Facts]) -> None:
        """Go on in a schema whose parts hold at once, and close what they describe together."""
        seen: set[str] = set()
        shared = set(scope.shared)
        for part in parts:
            shared |= part.names & seen
            seen |= part.names
        is_explicit = any(part.is_explicit for part in parts)
        n_choices = sum(key in read for key in _CHOICES)
        # Which names an alternative evaluates is decided by the instance; a name without a schema never is.
        is_open = is_explicit or n_choices > 0 or any(part.bare for part in parts)
        if (rest is False and is_open) or rest not in (None, True, False, {}):
            raise not_supported("unevaluatedProperties", where)
        around = _FREE if scope.kind == "free" else Scope("open", shared=frozenset(shared))
        closes = rest is False or (scope.kind == "closed" and rest is None and not is_explicit)
        names = frozenset(seen - {_ITEMS}) | scope.extra
        if closes and n_choices == 1:  # each alternative is closed over its own names and those around it
            fixed = self._parts({key: value for key, value in read.items() if key not in _CHOICES})
            extra = scope.extra.union(*(part.names for part in fixed)) - {_ITEMS}
            self._go_on(read, where, around, Scope("closed", extra, frozenset(shared)))
            return
        self._go_on(read, where, around, around)
        if closes and names:
            _close(read, names)
        if rest is False and read.get("additionalProperties") is not False:
            raise not_supported("unevaluatedProperties", where)

    def _go_on(self, read: dict[str, object], where: Where, scope: Scope, chosen: Scope) -> None:
        """Read the schemas in a schema; chosen: the scope of its alternatives."""
        values = _FREE if scope.kind == "free" else Scope()
        for key in _MAPS:
            if key in read:
                read[key] = {
                    name: self._schema(item, where.named(name), scope.of_value(name) if key == "properties" else values)
                    for name, item in _mapped(read[key]).items()
                }
        if "additionalProperties" in read:
            read["additionalProperties"] = self._schema(read["additionalProperties"], where.named("*"), values)
        for key in ("items", "prefixItems", "additionalItems"):
            if key in read:
                read[key] = self._items(read[key], where.items(), scope.of_value(_ITEMS))
        if "allOf" in read:
            read["allOf"] = [self._schema(part, where, scope) for part in _listed(read["allOf"])]
        if "$ref" in read:
            read["$ref"] = self._refer(str(read["$ref"]), where, scope)
        for key in _CHOICES:
            if key in read:
                read[key] = [self._schema(part, where, chosen) for part in _listed(read[key])]

    def _items(self, items: object, where: Where, scope: Scope) -> object:
        if isinstance(items, list):
            return [self._schema(item, where, scope) for item in items]
        return self._schema(items, where, scope)

    def _refer(self, reference: str, where: Where, scope: Scope) -> Definition:
        """Return the reference to a definition of ours, which is read later if it is new."""
        target = self._target(reference, where)
        key = (id(target), scope)
        if key not in self._names:
            self._names[key] = f"{len(self._names)}"
            self._waiting.append((self._names[key], target, where, scope))
        return Definition(f"#/$defs/{self._names[key]}")

    def _target(self, reference: str, where: Where) -> Node | bool:
        found = self._found(reference)
        if not isinstance(found, Mapping | bool):
            raise where.error(
                f"$ref: expected a reference to a part of this schema, such as #/$defs/name, got {reference!r:.200}"
            )
        return found

    def _found(self, reference: str) -> object:
        base = self._root.get("$id")
        if isinstance(base, str) and base and reference.startswith(base.rstrip("#") + "#"):
            reference = reference[len(base.rstrip("#")) :]
        if reference in ("#", "#/", ""):
            return self._root
        if not reference.startswith("#/"):
            return self._anchored().get(reference.removeprefix("#")) if reference.startswith("#") else None
        value: object = self._root
        for step in urllib.parse.unquote(reference[2:]).split("/"):
            key = step.replace("~1", "/").replace("~0", "~")
            if isinstance(value, list | tuple) and key.isdecimal() and int(key) < len(value):
                value = value[int(key)]
            else:
                value = value.get(key) if isinstance(value, Mapping) else None
        return value

    def _anchored(self) -> dict[str, Node]:
        if self._anchors is None:
            self._anchors = {}
            for node in _every(self._root):
                for key in ("$anchor", "$id", "id"):
                    name = node.get(key)
                    if isinstance(name, str) and (key == "$anchor" or name.startswith("#")):
                        self._anchors.setdefault(name.removeprefix("#"), node)
        return self._anchors

    def _own_facts(self, read: Node) -> _Facts:
        named = frozenset(_mapped(read.get("properties")))
        bare = frozenset(map(str, _listed(read.get("required")))) - named
        names = named | bare
        if not {"items", "prefixItems"}.isdisjoint(read):
            names |= {_ITEMS}
        return _Facts(names, not {"patternProperties", "additionalProperties"}.isdisjoint(read), bare)

    def _facts(self, node: object) -> _Facts:
        """Return what a schema says with all that may hold beside it."""
        names = bare = frozenset[str]()
        is_explicit = False
        waiting, known = [node], {id(node)}
        while waiting:
            self._count(Where(""))
            item = waiting.pop()
            if not isinstance(item, Mapping):
                continue
            own = self._own_facts(item)
            names |= own.names
            bare |= own.bare
            is_explicit |= own.is_explicit or item.get("unevaluatedProperties") not in (None, False)
            reference = item.get("$ref")
            found = [self._found(reference)] if isinstance(reference, str) else []
            for part in [*found, *(part for key in ("allOf", *_CHOICES) for part in _listed(item.get(key)))]:
                if id(part) not in known:
                    known.add(id(part))
                    waiting.append(part)
        return _Facts(names, is_explicit, bare)


def _through(scope: Scope, rest: object, where: Where) -> Scope:
    """Return the scope of what is the whole of a schema; rest: what it says of keys that none of it evaluates."""
    if rest is None:
        return scope
    if rest is True or rest == {}:
        return scope if scope.kind == "free" else Scope("open", shared=scope.shared)
    raise not_supported("unevaluatedProperties", where)


def _close(read: dict[str, object], extra: frozenset[str]) -> None:
    """Close an object over its properties, the names it requires and those in `extra`, unless it speaks of others."""
    types = read.get("type", "object")
    properties = _mapped(read.get("properties"))
    if not {"additionalProperties", "patternProperties"}.isdisjoint(read) or not (extra or "properties" in read):
        return
    if types != "object" and not (isinstance(types, list) and "object" in types):
        return
    named: dict[str, object] = {**properties}
    for name in [*_listed(read.get("required")), *sorted(extra)]:
        named.setdefault(str(name), True)
    fewest = read.get("minProperties")
    if isinstance(fewest, int) and fewest > len(named):
        return
    read["properties"] = named
    read["additionalProperties"] = False


def _choose(node: dict[str, object]) -> None:
    """Put anyOf in place of oneOf, which says the same where no instance fits two of the schemas."""
    options = node.pop("oneOf")
    if "anyOf" in node:
        node["allOf"] = [*_listed(node.get("allOf")), {"anyOf": options}]
    else:
        node["anyOf"] = options


def _every(value: object) -> Iterator[Node]:
    if isinstance(value, Mapping):
        yield value
        for item in value.values():
            yield from _every(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _every(item)


def _mapped(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, list | tuple) else ()
