"""SQL as files: one file a question, with variants by server version.

`sql/NAME.sql` is the question for the oldest supported server; `sql/NAME_post_NNNNNN.sql` takes over from that
`server_version_num` on. The text that is sent is the file without its comment lines.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

_POST = re.compile(r"_post_(\d{6})\.sql$")


@cache
def _variants(package: str, name: str) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    for entry in resources.files(package).joinpath("sql").iterdir():
        if entry.name == f"{name}.sql":
            found.append((0, entry.name))
        elif entry.name.startswith(f"{name}_post_") and (match := _POST.search(entry.name)):
            found.append((int(match[1]), entry.name))
    return sorted(found, reverse=True)


@cache
def load(package: str, name: str, server_version: int = 0) -> str:
    """The SQL text of question `name` in `package` (a package with a folder `sql`) for a `server_version_num`.

    Raises KeyError for a question that does not exist or that this server is too old for.
    """
    for minimum, file_name in _variants(package, name):
        if server_version >= minimum or (server_version == 0 and minimum == 0):
            text = resources.files(package).joinpath("sql", file_name).read_text("utf-8")
            return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--")).strip()
    raise KeyError(f"no SQL file for question {name!r} on server version {server_version}")
