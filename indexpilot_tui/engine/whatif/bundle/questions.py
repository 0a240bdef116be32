"""Which question a query text is.

The questions are the `.sql` files of the rooms, so a bundle can keep their answers by name and give them back to whoever
asks the same question: a reader of catalogs needs no second way for files.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

from psycopg import sql

from indexpilot_tui.engine.postgres.queries import load

PACKAGES = {
    "whatif": "indexpilot_tui.engine.whatif",
    "bundle": "indexpilot_tui.engine.whatif.bundle",
    "advise": "indexpilot_tui.engine.whatif.advise",
    "observe": "indexpilot_tui.engine.observe",
}
_VARIANT = re.compile(r"(_post_\d{6})?\.sql$")
_SLOT = re.compile(r"\\{(schema|limit)\\}")


@cache
def _known(version: int) -> tuple[dict[str, str], list[tuple[re.Pattern[str], str]]]:
    """Texts by name, and the templates with holes (where an extension lives, how many rows) as patterns."""
    texts: dict[str, str] = {}
    templates: list[tuple[re.Pattern[str], str]] = []
    for short, package in PACKAGES.items():
        files = resources.files(package).joinpath("sql").iterdir()
        for name in sorted({_VARIANT.sub("", f.name) for f in files if f.name.endswith(".sql")}):
            try:
                text = load(package, name, version)
            except KeyError:
                continue  # this server is too old for the question, so nobody asks it
            if "{schema}" in text:
                pattern = _SLOT.sub(lambda m: f"(?P<{m[1]}>.+?)", re.escape(text), count=0)
                templates.append((re.compile(_once(pattern), re.DOTALL), f"{short}/{name}"))
            else:
                texts.setdefault(text, f"{short}/{name}")
    return texts, templates


def _once(pattern: str) -> str:
    """A group name may occur once in a pattern: the second hole of a name must hold what the first one holds."""
    for group in ("schema", "limit"):
        first, *rest = pattern.split(f"(?P<{group}>.+?)")
        if rest:
            pattern = first + f"(?P<{group}>.+?)" + f"(?P={group})".join(rest)
    return pattern


def identify(query: str | sql.Composed | sql.SQL, version: int) -> tuple[str, dict[str, str]] | None:
    """The name (`whatif/columns`) of a query, with what fills the holes of its template; None for an unknown text."""
    text = query if isinstance(query, str) else query.as_string(None)
    texts, templates = _known(version)
    if text in texts:
        return texts[text], {}
    for pattern, name in templates:
        if found := pattern.fullmatch(text):
            return name, found.groupdict()
    return None
