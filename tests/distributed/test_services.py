# SPDX-License-Identifier: Apache-2.0
"""Getting the servers: a mirror that is away for a moment must not fail a whole run."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.distributed import services

#: Fails as often as $FAILURES says, the way $HOW says, and notes how it was called.
APT_GET = """#!/bin/sh
echo "$@" >> calls
[ "$(wc -l < calls)" -gt "$FAILURES" ] && exit 0
[ "$HOW" = warning ] && echo "W: Failed to fetch http://mirror.example/Packages" && exit 0
echo "E: Could not get lock" >&2
exit 100
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "apt-get"
    program.write_text(APT_GET)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    return tmp_path / "calls"


class TestApt:
    @pytest.mark.parametrize("how", ["error", "warning"])
    def test_is_asked_again_while_it_fails(self, calls: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
        monkeypatch.setenv("FAILURES", "3")
        monkeypatch.setenv("HOW", how)
        services.apt_get("update")
        assert calls.read_text().splitlines() == ["--quiet update"] * 4

    def test_says_what_it_said_when_it_goes_on_failing(
        self, calls: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("FAILURES", "99")
        services.apt_get("update")
        assert len(calls.read_text().splitlines()) == 5
        assert "Could not get lock" in capsys.readouterr().err
