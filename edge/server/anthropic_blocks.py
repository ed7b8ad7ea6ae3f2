"""Blocks of content as Anthropic's clients send them, as our parts: text, images, documents, search results."""

from collections.abc import Mapping

from edge.chat.messages import Loc, Problems, shown
from edge.media.data_url import of_base64

Fields = dict[str, object]
Placed = list[tuple[Fields, Loc]]  # parts of ours, each with where it stood

KINDS = ("text", "image", "document", "search_result")
_SOURCES = {"image": ("base64", "url"), "document": ("base64", "url", "text", "content")}
_TYPES = {"image": "image/png", "document": "application/pdf"}  # the bytes say what it is, whatever is declared
_NO_FILES = "there are no stored files; expected the file itself as base64"


def text_of(part: Mapping[str, object]) -> str:
    """Return the text of a part that is text."""
    return str(part.get("text", ""))


def read_parts(block: object, loc: Loc, problems: Problems, *, beside: str = "") -> Placed:
    """Return a block as our parts; what is wrong goes to `problems`. beside: a kind that its place has besides."""
    fields = block if isinstance(block, Mapping) else {}
    kind = fields.get("type")
    if kind == "text":
        return _texts(fields.get("text"), (*loc, "text"), problems)
    if kind == "search_result":
        return _search_result(fields, loc, problems)
    if kind == "document":
        return _document(fields, loc, problems)
    if kind == "image":
        _check_transformations(fields.get("transformations"), (*loc, "transformations"), problems)
        return _source(fields.get("source"), "image", (*loc, "source"), problems)
    wanted = ", ".join((*KINDS, beside) if beside else KINDS)
    problems.add((*loc, "type"), f"expected one of {wanted}, got {shown(kind)}", "literal_error")
    return []


def _texts(text: object, loc: Loc, problems: Problems) -> Placed:
    if isinstance(text, str):
        return [({"type": "text", "text": text}, loc)]
    problems.add(loc, f"expected a string, got {shown(text)}", "string_type")
    return []


def _source(source: object, kind: str, loc: Loc, problems: Problems) -> Placed:
    """Return what an image or a document is made of."""
    fields = source if isinstance(source, Mapping) else {}
    form, data = fields.get("type"), fields.get("data")
    if form == "file":
        problems.add((*loc, "type"), _NO_FILES, "literal_error")
    elif form not in _SOURCES[kind]:
        msg = f"expected one of {', '.join(_SOURCES[kind])}, got {shown(form)}"
        problems.add((*loc, "type"), msg, "literal_error")
    elif form == "text":
        return _texts(data, (*loc, "data"), problems)
    elif form == "content":
        return _content(fields.get("content"), (*loc, "content"), problems)
    else:
        place, value = ((*loc, "url"), fields.get("url")) if form == "url" else ((*loc, "data"), data)
        if isinstance(value, str):
            name = "image_url" if kind == "image" else "pdf_url"
            return [({"type": name, name: value if form == "url" else of_base64(value, _TYPES[kind])}, place)]
        problems.add(place, f"expected a string, got {shown(value)}", "string_type")
    return []


def _content(content: object, loc: Loc, problems: Problems) -> Placed:
    """Return the content of a document that is made of blocks: text and images."""
    if isinstance(content, str):
        return _texts(content, loc, problems)
    if not isinstance(content, list):
        problems.add(loc, f"expected a string or a list of blocks, got {shown(content)}", "string_type")
        return []
    parts: Placed = []
    for j, block in enumerate(content):
        kind = block.get("type") if isinstance(block, Mapping) else None
        if kind in ("text", "image"):
            parts += read_parts(block, (*loc, j), problems)
        else:
            problems.add((*loc, j, "type"), f"expected one of text, image, got {shown(kind)}", "literal_error")
    return parts


def _document(fields: Mapping[str, object], loc: Loc, problems: Problems) -> Placed:
    """Return a document, behind its title and what is said of it."""
    _check_citations(fields.get("citations"), (*loc, "citations"), problems)
    parts: Placed = []
    for name in ("title", "context"):
        if fields.get(name) is not None:
            parts += _texts(fields[name], (*loc, name), problems)
    return [*parts, *_source(fields.get("source"), "document", (*loc, "source"), problems)]


def _search_result(fields: Mapping[str, object], loc: Loc, problems: Problems) -> Placed:
    """Return what a search found: its title, where it was found, and its text."""
    _check_citations(fields.get("citations"), (*loc, "citations"), problems)
    parts: Placed = []
    for name in ("title", "source"):
        parts += _texts(fields.get(name), (*loc, name), problems)
    content = fields.get("content")
    if not isinstance(content, list):
        problems.add((*loc, "content"), f"expected a list of text blocks, got {shown(content)}", "list_type")
        return parts
    for j, block in enumerate(content):
        kind = block.get("type") if isinstance(block, Mapping) else None
        if kind == "text":
            parts += read_parts(block, (*loc, "content", j), problems)
        else:
            problems.add((*loc, "content", j, "type"), f"expected text, got {shown(kind)}", "literal_error")
    return parts


def _check_citations(citations: object, loc: Loc, problems: Problems) -> None:
    if citations is None:
        return
    if not isinstance(citations, Mapping):
        problems.add(loc, f"expected an object, got {shown(citations)}", "dict_type")
    elif problems.flag((*loc, "enabled"), citations.get("enabled")):
        problems.add((*loc, "enabled"), "citations are not supported; expected false", "value_error")


def _check_transformations(wanted: object, loc: Loc, problems: Problems) -> None:
    """Check what is to become of an image that is too large: it is made smaller, as for every route."""
    if wanted is None:
        return
    if not isinstance(wanted, Mapping):
        problems.add(loc, f"expected an object, got {shown(wanted)}", "dict_type")
    elif wanted.get("oversized_image") not in (None, "downsize"):
        msg = f"expected downsize, the only one that is supported, got {shown(wanted['oversized_image'])}"
        problems.add((*loc, "oversized_image"), msg, "literal_error")
