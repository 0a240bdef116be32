"""Which unique indexes statements rely on by ON CONFLICT (columns). Pure, and by the look of the text: good enough to name
them, never to decide that nobody does."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

_NAME = r'(?:"(?:[^"]|"")+"|[a-z_\u0080-\uffff][\w$\u0080-\uffff]*)'
_INTO = re.compile(rf"\binsert\s+into\s+(?:only\s+)?(?:{_NAME}\s*\.\s*)?(?P<table>{_NAME})", re.IGNORECASE)
_TARGET = re.compile(r"\bon\s+conflict\s*\((?P<columns>[^()]*)\)", re.IGNORECASE)


def conflicts_of(texts: Iterable[str]) -> dict[tuple[str, frozenset[str]], int]:
    """How many statements name which columns of which table. A target with an expression or ON CONSTRAINT is not counted."""
    found: Counter[tuple[str, frozenset[str]]] = Counter()
    for text in texts:
        into, target = _INTO.search(text), _TARGET.search(text)
        if into and target:
            columns = frozenset(_plain(part) for part in target["columns"].split(","))
            found[_plain(into["table"]), columns] += 1
    return dict(found)


def _plain(name: str) -> str:
    name = name.strip()
    if name.startswith('"'):
        return name[1:-1].replace('""', '"')
    return name.split()[0].lower() if name else ""
