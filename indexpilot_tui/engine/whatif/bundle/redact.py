"""`--redact`: a bundle without values of columns, whose plans stay as close as that allows.

Values of statistics are replaced by others in the same order, equal where they were equal, for all columns of a kind of type
together, so that joins are estimated as before (times: for each column on its own). What a plan takes from statistics most
of the time stays exactly as it is: frequencies, null fractions, numbers of distinct values, widths, correlations,
multi-column dependencies, sizes.

Lost: distances between values (ranges with constants are estimated as if values were spread evenly), patterns of text
(LIKE), values of types that have no such order here (bytea, json, network, geometric, range and array values and more;
elements of text arrays are kept in their order), constants of statements (they become parameters, and are planned at the
replaced values) and comments, and statements that are not planned anyway. Names, and the constants in definitions (views,
checks, predicates, partition bounds, enum labels, booleans), stay: they are needed to build anything. A text value that such
a definition has as a constant stays as well, so that a partial index is estimated as before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from indexpilot_tui.engine.postgres import parsing
from indexpilot_tui.engine.whatif.bundle.disguise import TIMES, Disguise, kind_of
from indexpilot_tui.engine.whatif.bundle.model import Bundle, Row

# what has no values of rows in it; a question that is not here is left out
_DEFINITIONS = (
    "whatif/server", "whatif/settings", "whatif/relations", "whatif/columns", "whatif/indexes", "whatif/constraints",
    "whatif/types", "whatif/sizes", "whatif/index_facts", "whatif/key_tables", "whatif/usage_window", "bundle/names",
    "bundle/edges", "bundle/type_edges", "bundle/foreign_keys", "observe/health_facts", "observe/indexes",
    "observe/foreign_keys", "advise/references",
)  # fmt: skip
_VALUES = ("whatif/stats", "whatif/stats_reader", "whatif/extended_expressions")
_OF_ITS_OWN = ("whatif/extended", "whatif/statements", "whatif/functions")
_STATS = (
    "schema", "relation", "column", "inherited", "null_frac", "avg_width", "n_distinct", "correlation", "elem_counts",
    "range_empty",
)  # fmt: skip
_EXTENDED = (
    "oid", "table_oid", "schema", "name", "definition", "inherited", "ndistinct", "dependencies", "columns", "expressions",
)  # fmt: skip
_ITEM = re.compile(r'"((?:[^"\\]|\\.)*)"|([^,"]+)', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
KNOWN = {*_DEFINITIONS, *_VALUES, *_OF_ITS_OWN}  # a capture asks nothing else: held by a test
_TEXT_LITERAL = re.compile(r"'((?:[^']|'')*)'")
_LOST = (
    "distances between values of columns: only their order and equality are kept",
    "patterns of text: LIKE is estimated without them",
    "constants and comments of statements: they became parameters",
)


def redacted(bundle: Bundle) -> Bundle:
    """The bundle without values of columns; its header names what was lost. The one given is not changed."""
    answers = {name: rows for name, rows in bundle.answers.items() if name in _DEFINITIONS}
    lost = list(_LOST)
    disguise = Disguise(_kept_texts(bundle))
    kinds = {name: _kinds(bundle, name, disguise) for name in _VALUES if name in bundle.answers}
    disguise.settle()
    without = 0
    for name, of in kinds.items():
        rows = bundle.answers[name]
        answers[name] = made = [_row(row, kind, disguise) for row, kind in zip(rows, of, strict=True)]
        without += sum(1 for new, old in zip(made, rows, strict=True) if _has(old) and not _has(new))
    if without:
        lost.append(f"common values and histograms of {without} columns whose types have no order here")
    extended = bundle.answers.get("whatif/extended", [])
    if any(row.get("mcv") for row in extended):
        lost.append("common combinations of values (multi-column statistics)")
    answers["whatif/extended"] = [{k: v if k in _EXTENDED else None for k, v in row.items()} for row in extended]
    if "whatif/functions" in bundle.answers:  # their texts are code with constants in it; a planner does without
        functions = bundle.answers["whatif/functions"]
        answers["whatif/functions"] = [{**row, "definition": None, "body": None} for row in functions]
        if any(row["definition"] for row in functions):
            lost.append("texts of functions: they are not looked into")
    if "whatif/statements" in bundle.answers:
        kept, dropped = _statements(bundle.answers["whatif/statements"])
        answers["whatif/statements"] = kept
        if dropped:
            lost.append(f"{dropped} statements that are not planned (utility statements, or texts that do not parse)")
    count = len(answers["whatif/statements"]) if "whatif/statements" in answers else bundle.header.statements
    header = replace(bundle.header, redacted=True, lost=tuple(lost), statements=count)
    return Bundle(header, answers, bundle.name)


def _columns(bundle: Bundle) -> dict[tuple[str, str, str], str]:
    """The type of each column by schema, relation and name; of index columns those that are plain ones."""
    names = {r["oid"]: (r["schema"], r["name"]) for r in bundle.answers["whatif/relations"]}
    return {
        (*names[c["oid"]], c["name"]): c["type"] for c in bundle.answers["whatif/columns"] if c["oid"] in names
    }  # fmt: skip


def _kept_texts(bundle: Bundle) -> set[str]:
    """The text constants of definitions, which are in the bundle in any case."""
    texts: list[str | None] = []
    for row in bundle.answers["whatif/relations"]:
        texts += [row["view"], row["bound"]]
    texts += [row["expression"] for row in bundle.answers["whatif/columns"]]
    texts += [row["definition"] for row in bundle.answers.get("whatif/indexes", [])]
    texts += [row["definition"] for row in bundle.answers.get("whatif/constraints", [])]
    return {found.replace("''", "'") for text in texts if text for found in _TEXT_LITERAL.findall(text)}


def _has(row: Row) -> bool:
    return bool(row["mcv"] or row["histogram"])


def _kinds(bundle: Bundle, question: str, disguise: Disguise) -> list[str]:
    """The kind of value of each row of statistics; `disguise` learns the values."""
    types = _columns(bundle)
    enums = {r["name"] for r in bundle.answers.get("whatif/types", []) if r["kind"] == "e"}
    found: list[str] = []
    for row in bundle.answers[question]:
        values = [*_items(row["mcv"]), *_items(row["histogram"])]
        of_column = question != "whatif/extended_expressions"
        type_ = types.get((row["schema"], row["relation"], row["column"])) if of_column else None
        if type_ is None:  # of an expression: its type was not captured
            kind = disguise.guess(values)
        else:
            kind = "keep" if type_.rsplit(".", 1)[-1].strip('"') in enums else kind_of(type_)
        if kind in TIMES:  # times keep their place near now, which is another one for each column
            kind = f"{kind}:{row['schema']}.{row['relation']}.{row['column']}"
        if not kind.endswith("[]"):
            disguise.learn(kind, values)
        disguise.learn(kind.removesuffix("[]"), _items(row["mce"]))
        found.append(kind)
    return found


def _row(row: Row, kind: str, disguise: Disguise) -> Row:
    new: Row = {name: row.get(name) if name in _STATS else None for name in row}
    plain = not kind.endswith("[]")
    if plain and row["mcv"]:
        new["mcv"] = _array(disguise.of(kind, _items(row["mcv"])), None)
        new["mcf"] = row["mcf"] if new["mcv"] else None
    if plain and row["histogram"]:
        # only texts may have lost their order: those that stay stand among others that do not
        order = disguise.order(kind) if kind.startswith("text") else None
        new["histogram"] = _array(disguise.of(kind, _items(row["histogram"])), order)
    if row["mce"]:
        # elements are searched by order, so they are sorted again, their frequencies with them
        values = disguise.of(kind.removesuffix("[]"), _items(row["mce"]))
        frequencies = _items(row["mcef"])
        if values is not None and len(frequencies) >= len(values):
            pairs = sorted(
                zip(values, frequencies, strict=False), key=lambda p: disguise.order(kind.removesuffix("[]"))(p[0])
            )
            new["mce"] = _array([v for v, _ in pairs], None)
            new["mcef"] = "{" + ",".join([*(f for _, f in pairs), *frequencies[len(values) :]]) + "}"
    return new


def _items(text: str | None) -> list[str]:
    """The elements of a one-dimensional array in its text form; millions of them on a large database."""
    if not text or text == "{}":
        return []
    if '"' not in text and "\\" not in text:
        return text[1:-1].split(",")
    return [_ESCAPED.sub(r"\1", quoted) if quoted or not bare else bare for quoted, bare in _ITEM.findall(text[1:-1])]


def _array(items: Iterable[str] | None, order: Callable[[str], Any] | None) -> str | None:
    """The text form of an array; sorted where `order` is given."""
    if items is None:
        return None
    found = sorted(items, key=order) if order is not None else list(items)
    quoted = ('"' + item.replace("\\", "\\\\").replace('"', '\\"') + '"' for item in found)
    return "{" + ",".join(quoted) + "}" if found else None


def _statements(rows: list[Row]) -> tuple[list[Row], int]:
    """The statements that can be planned, with parameters in place of constants and without comments."""
    import postgast

    from indexpilot_tui.engine.whatif.statements import KINDS
    from indexpilot_tui.engine.whatif.wrapped import take_out

    kept: list[Row] = []
    for row in rows:
        try:
            parsing.parse(row["query"] or "")  # first: it refuses what is nested too deep for the other
            tree = parsing.parse(postgast.normalize(row["query"] or ""))
        except postgast.PgQueryError:
            continue  # counted below: every row that is not kept is lost
        if len(tree.stmts) != 1:
            continue
        list(take_out(tree))
        if (tree.stmts[0].stmt.WhichOneof("node") or "") in KINDS:
            kept.append({**row, "query": str(postgast.deparse(tree))})
    return kept, len(rows) - len(kept)
