"""What a server answered to a call, as the result of a tool: texts, images, audio, and what is known of the rest."""

import json
import re
from typing import TYPE_CHECKING

from edge.tools.output import Part, ToolResult

if TYPE_CHECKING:
    from mcp_types import CallToolResult

_MEDIA = re.compile(r"(image|audio)/[a-z0-9.+-]{1,50}")
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")


def result_of_call(answer: "CallToolResult") -> ToolResult:
    """Return a server's answer as a result; media are left as they came, to be decoded in the separate process."""
    texts: list[str] = []
    media: list[Part] = []
    for block in answer.content:
        part = _media(getattr(block, "data", None), getattr(block, "mime_type", None))
        resource = getattr(block, "resource", None)
        if resource is not None:
            part = _media(getattr(resource, "blob", None), resource.mime_type)
        if part is None:
            texts.append(_text(block))
        else:
            media.append(part)
    if not texts and not media and answer.structured_content is not None:
        texts.append(json.dumps(answer.structured_content, ensure_ascii=False))
    text = "\n".join(texts)
    return ToolResult(f"Error: {text}" if answer.is_error else text, tuple(media), answer.is_error)


def _media(data: object, kind: object) -> Part | None:
    """Return an image or audio as a part of a message, None for what is neither."""
    found = _MEDIA.fullmatch(kind.lower()) if isinstance(kind, str) else None
    if found is None or not isinstance(data, str):
        return None
    plain = "".join(data.split())  # before it is matched: a pattern with blanks takes ages on a long run of them
    if not _BASE64.fullmatch(plain):
        return None
    key = f"{found[1]}_url"
    return {"type": key, key: f"data:{found[0]};base64,{plain}"}


def _text(block: object) -> str:
    """Return what a block of an answer says, or what it is."""
    text = getattr(block, "text", None)
    if isinstance(text, str):
        return text
    resource = getattr(block, "resource", None)
    if resource is not None:
        inner = getattr(resource, "text", None)
        return f"[{resource.uri}]\n{inner}" if isinstance(inner, str) else f"[{resource.uri}: data that is not text]"
    uri = getattr(block, "uri", None)
    if uri is not None:
        return f"[a link: {getattr(block, 'name', '')} {uri}]"
    return f"[{getattr(block, 'type', 'something')} that is not supported]"
