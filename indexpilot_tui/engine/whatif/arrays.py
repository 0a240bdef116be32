"""Arrays in PostgreSQL's text form."""

from __future__ import annotations


def array_items(text: str | None) -> list[str]:
    """The elements of a one-dimensional array in its text form (array_out), NULLs left out."""
    if not text:
        return []
    items: list[str] = []
    current: list[str] = []
    quoted = was_quoted = escaped = False
    for char in text[1:-1]:
        if escaped:
            current.append(char)
            escaped = False
        elif char == "\\":
            escaped = True
        elif char == '"':
            quoted, was_quoted = not quoted, True
        elif char == "," and not quoted:
            items.append("".join(current) if was_quoted or "".join(current) != "NULL" else "")
            current, was_quoted = [], False
        else:
            current.append(char)
    if current or was_quoted:
        items.append("".join(current))
    return items
