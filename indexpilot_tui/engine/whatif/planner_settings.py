"""The settings that a shadow takes over from a target, live or from a file: a plan depends on them, or how values are
written does. Nothing else is ever set because somebody named it: a setting can make a session resolve names elsewhere,
load a library or write a file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable

Fits = Callable[[str], bool]


def _flag(value: str) -> bool:
    return value in ("on", "off", "true", "false")


def _number(low: float, high: float) -> Fits:
    def fits(value: str) -> bool:
        try:
            number = float(value)
        except ValueError:
            return False
        return len(value) <= 40 and math.isfinite(number) and low <= number <= high

    return fits


def _one_of(*values: str) -> Fits:
    return lambda value: value in values


def _like(pattern: str) -> Fits:
    compiled = re.compile(pattern)
    return lambda value: compiled.fullmatch(value) is not None


_COST, _COUNT, _KILOBYTES = _number(0, 1e10), _number(0, 1024), _number(0, 2**31 - 1)
_FLAGS = [
    "async_append",
    "bitmapscan",
    "distinct_reordering",
    "eager_aggregate",
    "gathermerge",
    "group_by_reordering",
    "hashagg",
    "hashjoin",
    "incremental_sort",
    "indexonlyscan",
    "indexscan",
    "material",
    "memoize",
    "mergejoin",
    "nestloop",
    "parallel_append",
    "parallel_hash",
    "partition_pruning",
    "partitionwise_aggregate",
    "partitionwise_join",
    "presorted_aggregate",
    "self_join_elimination",
    "seqscan",
    "sort",
    "tidscan",
]
ALLOWED: dict[str, Fits] = {
    **{f"enable_{name}": _flag for name in _FLAGS},
    **dict.fromkeys(("seq_page_cost", "random_page_cost", "cpu_tuple_cost", "cpu_index_tuple_cost", "cpu_operator_cost",
                     "parallel_setup_cost", "parallel_tuple_cost"), _COST),
    **dict.fromkeys(("jit_above_cost", "jit_inline_above_cost", "jit_optimize_above_cost"), _number(-1, 1e10)),
    "jit": _flag, "geqo": _flag, "parallel_leader_participation": _flag,
    **dict.fromkeys(("geqo_pool_size", "geqo_generations"), _KILOBYTES),
    "geqo_effort": _number(1, 10), "geqo_threshold": _number(2, 2**31 - 1), "geqo_seed": _number(0, 1),
    "geqo_selection_bias": _number(1.5, 2),
    **dict.fromkeys(("from_collapse_limit", "join_collapse_limit"), _number(1, 2**31 - 1)),
    "cursor_tuple_fraction": _number(0, 1), "recursive_worktable_factor": _number(0.001, 1e6),
    "constraint_exclusion": _one_of("on", "off", "partition"), "default_statistics_target": _number(1, 10_000),
    "plan_cache_mode": _one_of("auto", "force_generic_plan", "force_custom_plan"),
    **dict.fromkeys(("effective_cache_size", "work_mem", "min_parallel_table_scan_size", "min_parallel_index_scan_size"),
                    _KILOBYTES),
    "hash_mem_multiplier": _number(1, 1000),
    **dict.fromkeys(("max_parallel_workers_per_gather", "max_parallel_workers", "max_parallel_maintenance_workers",
                     "max_worker_processes", "effective_io_concurrency"), _COUNT),
    **dict.fromkeys(("debug_parallel_query", "force_parallel_mode"), _one_of("on", "off", "regress")),
    "DateStyle": _like(r"(ISO|SQL|Postgres|German)(, ?(MDY|DMY|YMD))?"),
    "IntervalStyle": _one_of("postgres", "postgres_verbose", "sql_standard", "iso_8601"),
    "TimeZone": _like(r"[A-Za-z0-9_+:/<>.,-]{1,60}"), "extra_float_digits": _number(-15, 3),
    "default_text_search_config": _like(r"pg_catalog\.[a-z_]{1,60}"),
}  # fmt: skip


def allowed(settings: Iterable[tuple[str, str]]) -> tuple[list[tuple[str, str]], list[str]]:
    """Those that may be taken over, and the names of the known ones whose value is none of theirs."""
    fit, odd = [], []
    for name, value in settings:
        fits = ALLOWED.get(name)
        if fits is None:
            continue
        if fits(value):
            fit.append((name, value))
        else:
            odd.append(name)
    return fit, odd
