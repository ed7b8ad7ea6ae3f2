"""The sections about quality: size against loss, the divergence at every position, the kinds of text."""

from collections.abc import Mapping, Sequence

from export.report import curves, scatter
from export.report.axes import Mark
from export.report.certificate import TextSet
from export.report.curves import QUANTILES, Curve
from export.report.markup import EMPTY, Markup, text
from export.report.numbers import NONE, count, megabytes, percent, printed
from export.report.parts import figure, legend, mark_of, name, prose, section, table, values
from export.report.scatter import Dot
from export.report.subject import Subject


def size_against_loss(subjects: Sequence[Subject]) -> Markup:
    """Return the plot of sizes and divergences; nothing where fewer than two bundles have a certificate."""
    known = [(subject, kl) for subject in subjects if (kl := subject.kl) is not None]
    if len(known) < 2:
        return EMPTY
    dots = [Dot(mark_of(subject), subject.label, subject.n_bytes, kl) for subject, kl in known]
    rows = [[name(subject), *values([megabytes(subject.n_bytes), printed(kl)])] for subject, kl in known]
    without = [subject.label for subject in subjects if subject.kl is None]
    return section(
        "Size against loss",
        prose(
            "Each mark is a bundle. The line joins those that no other bundle beats by being no larger and no further "
            "from its model. Bundles beside the line are grey."
        ),
        figure(
            scatter.draw(dots, "Mean KL divergence against size on disk"),
            table(["bundle", "size", "KL mean"], rows, "Size and mean KL divergence of each bundle"),
        ),
        prose(f"Without a certificate: {', '.join(without)}.", "note") if without else EMPTY,
    )


def by_position(subjects: Sequence[Subject]) -> Markup:
    """Return the sorted divergences, a plot for each kind of text; nothing where no certificate has them."""
    names = _set_names(subjects)
    if not names:
        return EMPTY
    sets = [(set_name, _curves(subjects, set_name)) for set_name in names]
    title = "KL divergence by share of positions"
    drawing = curves.draw(sets[0][1], title) if len(sets) == 1 else curves.panels(sets, title)
    if len(subjects) == 1:
        every = [
            Curve(Mark(number, number == 0), set_name, found[0].kl) for number, (set_name, found) in enumerate(sets)
        ]
        drawing = curves.draw(every, title)
    without = [subject.label for subject in subjects if not _with_positions(subject)]
    return section(
        "Where the loss is",
        prose(
            "The divergence at every measured position, sorted. A mean hides rare failures: further to the right are "
            "the positions where the bundle differs most. The lower a curve, the better."
        ),
        legend([subject for subject in subjects if _with_positions(subject)]),
        figure(drawing, _quantiles(subjects, names)),
        prose(f"No divergences by position in the certificates of {', '.join(without)}.", "note") if without else EMPTY,
    )


def by_text(subjects: Sequence[Subject]) -> Markup:
    """Return the figures of each kind of text as a table; nothing where certificates do not tell them apart."""
    found = [
        (each, subject) for subject in subjects for each in (subject.certificate.sets if subject.certificate else ())
    ]
    known = [(each, subject) for each, subject in found if each.kl.mean is not None]
    if not known:
        return EMPTY
    order = list(dict.fromkeys(each.name for each, _ in known))
    known.sort(key=lambda pair: (order.index(pair[0].name), pair[1].number))
    names = len(subjects) > 1  # of one bundle the column would say the same in every row
    rows = [[text(each.name), *([name(subject)] if names else []), *values(_figures(each))] for each, subject in known]
    heads = ["text", *(["bundle"] if names else []), "positions", "KL mean", "KL p99", "top-1", "perplexity"]
    behind = table([*heads, "reference's"], rows, "Figures of each kind of text", n_names=2 if names else 1)
    return section("By kind of text", behind)


def _figures(found: TextSet) -> list[str]:
    perplexity = found.perplexity
    return [
        NONE if found.positions is None else count(found.positions),
        *(NONE if value is None else printed(value) for value in (found.kl.mean, found.kl.p99)),
        NONE if found.top1 is None else percent(found.top1),
        *(NONE if value is None else printed(value, 4) for value in (perplexity.bundle, perplexity.reference)),
    ]


def _with_positions(subject: Subject) -> Mapping[str, Sequence[float]]:
    sets = subject.certificate.sets if subject.certificate else ()
    return {found.name: found.kl_positions for found in sets if len(found.kl_positions) > 1}


def _set_names(subjects: Sequence[Subject]) -> list[str]:
    return list(dict.fromkeys(set_name for subject in subjects for set_name in _with_positions(subject)))


def _curves(subjects: Sequence[Subject], set_name: str) -> list[Curve]:
    found = ((subject, _with_positions(subject).get(set_name)) for subject in subjects)
    return [Curve(mark_of(subject), subject.label, kl) for subject, kl in found if kl]


def _quantiles(subjects: Sequence[Subject], names: Sequence[str]) -> Markup:
    rows = []
    for set_name in names:
        for subject in subjects:
            if kl := _with_positions(subject).get(set_name):
                figures = [printed(value) for value in (*(curves.quantile(kl, q) for q in QUANTILES), kl[-1])]
                rows.append([name(subject), text(set_name), *values([count(len(kl)), *figures])])
    heads = ["bundle", "text", "positions", *(f"{100 * share:g} % below" for share in QUANTILES), "largest"]
    return table(heads, rows, "KL divergence by share of positions", n_names=2)
