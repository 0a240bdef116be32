"""The control schema in a file and back, from the command line, over TLS."""

from __future__ import annotations

import stat
from pathlib import Path

from tests.cli.conftest import Site, make_database
from tests.cli.console_line import indexpilot
from tests.cli.test_walk import propose


def test_backup_and_restore(site: Site, tmp_path: Path) -> None:
    config, out, other = site.config(), tmp_path / "control.backup", f"{site.dbname}_back"
    change_id = propose(site, config=config)
    ran = indexpilot("backup", "mona", "-o", str(out), "--config", config, "--json")
    assert ran.status == 0, ran.err
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    written = ran.json
    assert written["rows"]["changes"] == 1
    assert '"targets.mona.dbname"' in out.read_text().splitlines()[0]  # the effective configuration
    ran = indexpilot("backup", "mona", "-o", str(out), "--config", config)
    assert (ran.status, "--force" in ran.err) == (64, True)
    ran = indexpilot("restore", str(out), "--dry-run", "--sha256", written["sha256"])
    assert ran.status == 0, ran.err
    assert written["sha256"] in ran.out
    altered = tmp_path / "altered"
    altered.write_text(out.read_text().replace("slow lookups", "fast lookups"))
    ran = indexpilot("restore", str(altered), "--dry-run")
    assert (ran.status, "the chain" in ran.out, "altered" in ran.err) == (64, False, True)
    refused = {"olga": (3, "may not restore"), site.server.conninfo("admin", site.dbname): (2, "in use")}
    for target, (status, why) in refused.items():
        ran = indexpilot("restore", str(out), target, "--config", config)
        assert (ran.status, why in ran.err) == (status, True), ran.err
    make_database(site.server, other)
    try:
        ran = indexpilot("restore", str(out), site.server.conninfo("admin", other), "--config", config, "--json")
        assert ran.status == 0, ran.err
        assert ran.json["restored_as"] != written["chain_id"]
        there = site.server.conninfo("mona", other)
        ran = indexpilot("audit", "verify", there, "--config", config)
        assert ran.status == 0, ran.err
        ran = indexpilot("changes", "show", str(change_id), there, "--config", config, "--json")
        assert ran.json["state"] == "proposed"
    finally:
        with site.server.connect() as conn:
            conn.execute(f"drop database {other} with (force)".encode())
