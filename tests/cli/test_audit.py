"""The log from the command line: verified with heads kept outside, exported as data, pruned with a cut that is proved."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path

import pytest

from tests.cli.conftest import Site
from tests.cli.console_line import Ran, indexpilot
from tests.cli.test_walk import propose

HOSTILE = "incident \x1b]52;c;cm0gLXJm\x07 <img src=x> [click](http://evil.example) | `x` \u202egnp.exe www.evil.example"


def audit(site: Site, *args: str, **config: object) -> Ran:
    return indexpilot("audit", *args, "--config", site.config(**config))


@pytest.mark.family(25, no_oracle="the log is broken on purpose, and the verifier judged")
def test_heads_outside_and_a_tail_that_was_cut(site: Site, tmp_path: Path) -> None:
    heads = tmp_path / "heads.jsonl"
    config = site.config(control={"anchor": {"file": str(heads), "required": True}})
    change_id = propose(site, config=config)
    assert indexpilot("changes", "withdraw", str(change_id), "olga", "--reason", "no", "--config", config).status == 0
    assert json.loads(heads.read_text())["state"] == "withdrawn"
    ran = audit(site, "verify", "mona", "--anchor", str(heads))
    assert ran.status == 0, ran.err
    assert "1 heads that were kept outside agree" in ran.out
    with site.admin() as conn:
        conn.execute("alter table indexpilot.mutation_log disable trigger append_only")
        conn.execute("delete from indexpilot.mutation_log where seq = (select seq from indexpilot.chain_head)")
        conn.execute(
            "update indexpilot.chain_head h set seq = l.seq, hash = l.hash from"
            " (select seq, hash from indexpilot.mutation_log order by seq desc limit 1) l"
        )
    assert audit(site, "verify", "mona").status == 0
    ran = audit(site, "verify", "mona", "--anchor", str(heads), "--json")
    assert ran.status == 2
    assert "its tail was cut off" in ran.json["reason"]
    ran = audit(site, "verify", "mona", "--anchor", str(tmp_path / "other"))
    assert ran.status == 64
    assert "--anchor" in ran.err


@pytest.mark.family(25, no_oracle="the log is broken on purpose, and the verifier judged")
def test_the_export_is_data_for_whoever_opens_it(site: Site, tmp_path: Path) -> None:
    config = site.config()
    ddl = "CREATE INDEX ON app.orders (customer_id) WHERE note <> '\x1b[2J|<b>'"
    ran = indexpilot("changes", "propose", ddl, "olga", "--reason", HOSTILE, "--config", config, "--json")
    assert ran.status == 0, ran.err
    out = tmp_path / "log.jsonl"
    assert audit(site, "export", "mona", "-o", str(out)).status == 0
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert out.read_bytes().isascii()
    assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", out.read_bytes())
    first = json.loads(out.read_text().splitlines()[0])
    assert json.loads(first["detail"])["reason"] == HOSTILE.strip()  # the very text that was hashed
    ran = indexpilot("audit", "verify", "--file", str(out))
    assert ran.status == 0, ran.err
    out.write_text(out.read_text().replace("incident", "accident"))
    ran = indexpilot("audit", "verify", "--file", str(out))
    assert (ran.status, "row 1 was changed" in ran.out) == (2, True)
    assert indexpilot("audit", "verify", "mona", "--file", str(out)).status == 64
    on_stdout = audit(site, "export", "mona").out
    assert [json.loads(line)["seq"] for line in on_stdout.splitlines()][:2] == [1, 2]
    text = audit(site, "export", "mona", "--format", "markdown").out
    (row,) = [line for line in text.splitlines() if "incident" in line]
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\\<img src=x\\>" in row
    assert "\\[click\\]\\(http\\://evil.example\\)" in row
    assert "www\\.evil" in row
    assert len(re.findall(r"(?<!\\)\|", row)) == 7
    assert "holds" in text


def test_nothing_is_left_of_an_export_that_failed(site: Site, tmp_path: Path) -> None:
    old = tmp_path / "log.jsonl"
    old.write_text("the last one\n")
    with site.admin() as conn:
        conn.execute("alter table indexpilot.mutation_log rename to gone")
    ran = audit(site, "export", "mona", "-o", str(old))
    assert ran.status == 3, ran.err
    assert old.read_text() == "the last one\n"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert audit(site, "export", "mona", "-o", str(tmp_path / "none" / "log")).status == 64


def test_prune_says_what_it_kept(site: Site) -> None:
    propose(site)
    ran = audit(site, "prune", "olga", "--json", operational={"data_retention": {"audit_logs_days": 30}})
    assert ran.status == 0, ran.err
    assert ran.json["mutation_log"] == {"kept_days": 365, "removed": 0}  # the administrator's policy holds
    assert ran.json["change_stats"] == {"kept_days": 180, "removed": 0}
    assert audit(site, "prune", "mona").status == 3
