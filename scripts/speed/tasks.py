"""Tasks whose answers say again what the prompt says: repeat it, extract from it, edit it."""

from __future__ import annotations

from typing import Final

MAX_TOKENS: Final = 200

_STORY = (
    "The harbour of Vellin lies where the river Anse meets the sea. Every morning at six the ferry Lisbeth leaves for"
    " the island of Horn with mail, bread and a few sleepy commuters. Captain Maren Toft has steered her for nineteen"
    " years, and she knows each sandbank by name. In winter, when the fog is thick, she stops the engine and listens"
    " for the bell buoy before she turns into the narrow channel."
)
_RECORDS = (
    "2024-03-02 order 1071 Anna Berg anna.berg@example.org 3 pumps\n2024-03-02 order 1072 Jonas Kern"
    " jonas.kern@example.org 1 valve\n2024-03-04 order 1073 Mira Stone mira.stone@example.org 12 gaskets\n2024-03-05"
    " order 1074 Paul Ruiz paul.ruiz@example.org 2 filters\n2024-03-07 order 1075 Dana Witt dana.witt@example.org 5"
    " hoses\n"
)
_CODE = (
    "def mean(values):\n    total = 0\n    count = 0\n    for value in values:\n        total = total + value\n"
    "        count = count + 1\n    if count == 0:\n        return None\n    return total / count\n"
    "\n\ndef spread(values):\n    low = min(values)\n    high = max(values)\n    return high - low\n"
)


def read() -> list[tuple[str, str]]:
    """(kind, question) of each task."""
    return [
        ("repeat", f"Repeat this text word for word:\n\n{_STORY}"),
        ("extract", f"Copy every line of this list that has an e-mail address, unchanged:\n\n{_RECORDS}"),
        ("edit", f"Write this Python code again, with the name `total` changed to `result`:\n\n{_CODE}"),
    ]
