"""``manage.py preflight`` against a whole platform: everything well, then with parts of it taken away."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from deploy.local.stack import REPOSITORY
from tests.platform import Platform, platform_start, wait_for


def preflight(platform: Platform, *checks: str) -> tuple[int, dict[str, str], str]:
    """Return the exit code, the state of every check, and what was printed."""
    done = subprocess.run(
        [sys.executable, "manage.py", "preflight", *checks],
        cwd=REPOSITORY,
        env=platform.stack.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )
    states = {
        line[:16].strip(): line[17:26].strip() for line in done.stdout.splitlines() if re.match(r"[A-Z].{16}\S", line)
    }
    return done.returncode, states, done.stdout + done.stderr


def test_a_platform_is_healthy_until_something_is_taken_away(tmp_path: Path) -> None:
    with platform_start(tmp_path) as (platform, broker):
        # Beat asks for the first time when its processes have been up for a few seconds.
        wait_for("the reaper runs", lambda: preflight(platform, "beat")[0] == 0)
        code, states, said = preflight(platform)
        assert (code, {name for name, state in states.items() if state not in ("ok", "-")}) == (0, set()), said
        assert states["Ingest"] == states["Worker"] == states["Beat"] == states["Static files"] == "ok"
        assert "slot 0: heard of" in said

        broker.stop()
        code, states, said = preflight(platform, "broker", "database")
        assert (code, states["MQTT broker"], states["Database"]) == (1, "FAILED", "ok"), said
        broker.start()

        platform.stack.stop()
        code, states, said = preflight(platform)
        failed = {name for name, state in states.items() if state == "FAILED"}
        assert (code, failed) == (
            1,
            {"Redis", "Worker", "Builder", "Beat", "Ingest", "Backend", "Container engine", "Registry"},
        ), said
