"""What an index is to the size model, apart from the shadow that it was made on: the bloat of real ones is modelled, too."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Attribute:
    """One column of an index. `column` is the table's column number, 0 for an expression; `length` is typlen, -1 for a
    varlena."""

    number: int
    column: int
    type: str
    type_oid: int
    length: int
    align: str
    typmod: int
    expression: str


@dataclass(frozen=True, slots=True)
class MadeIndex:
    """An index that exists on the shadow only (or a partition's part of one). OIDs are the shadow's."""

    oid: int
    table_oid: int
    schema: str
    name: str
    method: str
    partitioned: bool
    file: int
    unique: bool
    key_columns: int
    options: tuple[str, ...]
    predicate: str | None
    # deduplication is possible: every operator class has a btequalimage function, and no collation takes different strings
    # for equal
    equal_image: bool
    attributes: tuple[Attribute, ...]
