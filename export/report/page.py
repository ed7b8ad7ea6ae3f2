"""The report as one HTML page: no script, nothing from elsewhere, the same bytes from the same figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from edge.bundle.manifest import Manifest, SpeechManifest
from export.report import bars, claims, columns, provenance, quality, storage
from export.report.bars import Bar
from export.report.columns import Column
from export.report.markup import EMPTY, Markup, element, join, text
from export.report.numbers import printed, raised, significant
from export.report.parts import figure, mark_of, name, prose, section, table, terms, values
from export.report.subject import Subject, n_weights, shared_words

# The style is in the page itself; nothing else may be loaded, whatever stands in a bundle's names.
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_STYLE: Final = Path(__file__).with_name("style.css")
_PANELS: Final = (
    ("prefill, tokens/s", columns.PREFILL), ("decode, tokens/s", columns.DECODE), ("load, s", columns.LOAD),
    ("one image tile, s", columns.TILE), ("anonymous memory", columns.ANONYMOUS),
)  # fmt: skip


def render(subjects: Sequence[Subject]) -> bytes:
    """Return the page about one bundle, or about several side by side, as UTF-8."""
    title = _title([subject.manifest.id for subject in subjects])
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", text(title)),
        Markup(f"<style>\n{_STYLE.read_text('utf-8')}</style>"),
    )
    body = element("body", element("main", _header(subjects, title), *_sections(subjects)))
    return f'<!doctype html>\n<html lang="en">{head}\n{body}</html>\n'.encode()


def _sections(subjects: Sequence[Subject]) -> list[Markup]:
    return [
        _warnings(subjects),
        _tiles(subjects[0]) if len(subjects) == 1 else _summary(subjects),
        quality.size_against_loss(subjects),
        quality.by_position(subjects),
        quality.by_text(subjects),
        storage.errors(subjects),
        storage.parts(subjects),
        _speed(subjects),
        provenance.details(subjects),
    ]


def _title(ids: Sequence[str]) -> str:
    shared = shared_words(ids)
    if len(ids) == 1:
        return ids[0]
    return f"{len(ids)} bundles of {shared}" if shared else f"{len(ids)} bundles compared"


def _header(subjects: Sequence[Subject], title: str) -> Markup:
    first = subjects[0].manifest
    kinds = list(dict.fromkeys(subject.manifest.source.architecture for subject in subjects))
    words = [", ".join(kinds[:3]), *(_weights(first) if len(kinds) == 1 else ())]
    if len(subjects) == 1:
        words.insert(0, f"recipe {first.recipe.name}")
    return element(
        "header",
        prose("Bundle report" if len(subjects) == 1 else "Bundle comparison", "over"),
        element("h1", text(title)),
        prose(" · ".join(words), "sub"),
    )


def _weights(manifest: Manifest | SpeechManifest) -> list[str]:
    if not isinstance(manifest, Manifest):
        return []
    n = n_weights(manifest)
    return [
        f"{printed(n / 1e9)} billion weights in the decoder"
        if n >= 1e9
        else f"{significant(n / 1e6)} million weights in the decoder"
    ]


def _warnings(subjects: Sequence[Subject]) -> Markup:
    lines = [element("li", text(line, most=1000), class_="missed") for line in claims.missed(subjects)]
    lines += [element("li", text(line, most=1000)) for line in claims.cautions(subjects)]
    return element("ul", *lines, class_="warnings") if lines else EMPTY


def _tiles(subject: Subject) -> Markup:
    """Return the figures of a single bundle, large."""
    certificate = subject.certificate
    reference = certificate.perplexity.reference if certificate else None
    pairs = []
    for column in columns.known([subject]):
        words = raised(column.text(subject))
        if column is columns.PERPLEXITY and reference is not None:
            words += f" (reference {printed(reference, 4)})"
        pairs.append((column.head, words))
    return terms(pairs, "tiles")


def _summary(subjects: Sequence[Subject]) -> Markup:
    known = columns.known(subjects)
    best = {column.head: column.best(subjects) for column in known}
    rows = [
        [
            name(subject),
            text(subject.manifest.recipe.name),
            *(_value(column, subject, best) for column in known),
        ]
        for subject in subjects
    ]
    found = list(claims.findings(subjects))
    return join(
        element("ul", *(element("li", text(line, most=1000)) for line in found), class_="claims") if found else EMPTY,
        section(
            "At a glance",
            table(
                ["bundle", "recipe", *(column.head for column in known)],
                rows,
                "Figures of each bundle; the best of a column is bold, float32 aside",
                n_names=2,
            ),
        ),
    )


def _value(column: Column, subject: Subject, best: Mapping[str, float | None]) -> Markup:
    words = text(raised(column.text(subject)))
    return (
        element("strong", words)
        if best[column.head] is not None and column.value(subject) == best[column.head]
        else words
    )


def _speed(subjects: Sequence[Subject]) -> Markup:
    """Return the bars of every figure that was measured; nothing where none was."""
    measured = [
        (title, column) for title, column in _PANELS if any(column.value(subject) is not None for subject in subjects)
    ]
    if not measured:
        return EMPTY
    panels = [
        element("div", element("h3", text(title)), bars.panel(
            [Bar(mark_of(subject), subject.label, column.value(subject)) for subject in subjects], title, column.shown
        ), class_="panel")
        for title, column in measured
    ]  # fmt: skip
    rows = [[name(subject), *values([column.text(subject) for _, column in measured])] for subject in subjects]
    conditions = sorted({words for subject in subjects if subject.speed for words in subject.speed.conditions})
    return section(
        "Speed",
        prose("Medians of the given measurements. More tokens/s are better, fewer seconds and less memory are."),
        figure(
            element("div", *panels, class_="panels"),
            table(["bundle", *(title for title, _ in measured)], rows, "Speed and memory"),
        ),
        *(prose(f"Measured on {words}.", "note") for words in conditions[:4]),
    )
