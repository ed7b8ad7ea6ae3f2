"""The sections about what is stored: the error and the scheme of every tensor, and what the bytes are."""

from collections.abc import Sequence

from export.report import bars, heat
from export.report.bars import Stack
from export.report.heat import Shade
from export.report.markup import EMPTY, Markup, element, join, text
from export.report.numbers import NONE, megabytes, printed
from export.report.parts import figure, glyph, mark_of, name, prose, section, table, values
from export.report.subject import Subject
from export.report.tensors import Layout, arrange, marks

MAX_ROWS = 600  # tensors in the table behind the strips

_PARTS = (  # in the order of their shades
    ("decoder", "decoder.bin"), ("embedding", "embedding.bin"), ("vision", "vision.bin"), ("audio", "audio.bin"),
    ("encoder", "encoder.bin"),
)  # fmt: skip
_REST = "graphs, tokenizer"


def errors(subjects: Sequence[Subject]) -> Markup:
    """Return the strips of every bundle, all with the same shades."""
    tensors = [subject.manifest.recipe.tensors for subject in subjects]
    known = heat.shades([record.error for found in tensors for record in found.values()])
    short = marks(record.scheme for found in tensors for record in found.values())
    strips = [
        _bundle(subject, arrange(found), known, short) for subject, found in zip(subjects, tensors, strict=True)
    ]  # fmt: skip
    return section(
        "Error by tensor",
        prose(
            "A cell is a tensor: a column for each layer, a row for each kind. The stronger its colour, the larger its "
            "relative error |W − Wq| / |W|, on one scale for the whole page. The mark in a cell is its scheme. Towers "
            "for images and audio are shown stage by stage, each cell with the largest error of its blocks."
        ),
        element("ul", *_shades(known), class_="ramp", aria_label="relative error"),
        element("ul", *(_scheme(mark, scheme) for scheme, mark in short.items()), class_="ramp", aria_label="schemes"),
        figure(join(*strips), _errors_table(subjects)),
    )


def parts(subjects: Sequence[Subject]) -> Markup:
    """Return what each bundle's bytes are."""
    rows = [Stack(mark_of(subject), subject.label, _bytes_by_part(subject)) for subject in subjects]
    used = [place for place, (_, _) in enumerate(rows[0].parts) if any(row.parts[place][1] for row in rows)]
    heads = ["bundle", *(rows[0].parts[place][0] for place in used)]
    body = [
        [name(subject), *values([megabytes(row.parts[place][1]) for place in used])]
        for subject, row in zip(subjects, rows, strict=True)
    ]
    names = [(f"p{place}", rows[0].parts[place][0]) for place in used]
    return section(
        "What the bytes are",
        element("ul", *(element("li", element("b", class_=shade), text(part)) for shade, part in names), class_="ramp"),
        figure(bars.stacks(rows, "Bytes of each part"), table(heads, body, "Bytes of each part")),
    )


def _bytes_by_part(subject: Subject) -> list[tuple[str, int]]:
    files = subject.manifest.files
    known = [(part, files[file].bytes if file in files else 0) for part, file in _PARTS]
    return [*known, (_REST, subject.n_bytes - sum(n_bytes for _, n_bytes in known))]


def _bundle(subject: Subject, layout: Layout, known: Sequence[Shade], short: dict[str, str]) -> Markup:
    grids = []
    for grid in () if subject.is_exact else layout.grids:
        title = f"{subject.label}, {grid.tower}: relative error of each tensor"
        grids.append(join(element("h4", text(grid.tower)), heat.strips(grid, known, short, title)))
    chips = [] if subject.is_exact else [heat.chip(tensor, cell, known, short) for tensor, cell in layout.singles]
    return element(
        "div",
        element(
            "h3",
            element("span", glyph(subject), text(f"{subject.label} "), class_="bundle"),
            element("small", text(_schemes(subject))),
        ),
        *grids,
        element("ul", *chips, class_="ramp chips") if chips else EMPTY,
        prose(f"{layout.n_left_out} more tensors are not drawn.", "note") if layout.n_left_out and grids else EMPTY,
        class_="strips",
    )


def _schemes(subject: Subject) -> str:
    """Return how many tensors have each scheme, the most frequent first."""
    found = [record.scheme for record in subject.manifest.recipe.tensors.values()]
    order = sorted(dict.fromkeys(found), key=lambda scheme: (-found.count(scheme), scheme))
    return ", ".join(f"{found.count(scheme)} × {scheme}" for scheme in order)


def _shades(known: Sequence[Shade]) -> list[Markup]:
    words = ["exact"]
    for each in known:
        low, high = printed(each.low, 2), printed(each.high, 2)
        words.append(low if low == high else f"{low} – {high}")
    return [element("li", element("b", class_=f"h{level}"), text(each)) for level, each in enumerate(words)]


def _scheme(mark: str, scheme: str) -> Markup:
    return element("li", element("b", text(mark), class_="plain"), text(scheme))


def _errors_table(subjects: Sequence[Subject]) -> Markup:
    """Return the tensors of all bundles, those with the largest errors first where there are too many."""
    worst: dict[str, float] = {}
    for subject in subjects:
        for tensor, record in subject.manifest.recipe.tensors.items():
            worst[tensor] = max(worst.get(tensor, 0.0), record.error)
    shown = set(sorted(worst, key=lambda tensor: (-worst[tensor], tensor))[:MAX_ROWS])
    rows = [
        [text(tensor), *(text(_record(subject, tensor)) for subject in subjects)] for tensor in worst if tensor in shown
    ]
    left = len(worst) - len(rows)
    caption = "Scheme and relative error of each tensor" + (
        f"; {left} with smaller errors are left out" if left else ""
    )
    return table(["tensor", *(subject.label for subject in subjects)], rows, caption)


def _record(subject: Subject, tensor: str) -> str:
    record = subject.manifest.recipe.tensors.get(tensor)
    return NONE if record is None else f"{record.scheme} {printed(record.error)}"
