# SPDX-License-Identifier: Apache-2.0
"""Start processes in sessions of their own, so that everything they leave behind can be found and ended.

A component of Airflow forks workers, which fork tasks. Their names and environments change (Airflow renames
them), and parents die first; the session they were started in is what they keep.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Session:
    """Every process that descends from one `spawn`.

    :param leader: process id of the one that was started; it is the session's id as well.
    :param started: when that one was started, seconds since 1970; tells it from a later one with its id.
    """

    leader: int
    started: float

    def members(self) -> list[psutil.Process]:
        """All living processes of the session, also when the leader has died."""
        found = []
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) != self.leader or process.status() == psutil.STATUS_ZOMBIE:
                    continue
                if process.pid == self.leader and process.create_time() != self.started:
                    return []
            except (OSError, psutil.Error):
                continue
            found.append(process)
        return found


def spawn(command: Sequence[str], *, environment: Mapping[str, str], log: Path, folder: Path) -> Session:
    """Start a command in a session of its own, its output appended to `log`.

    :param environment: the whole environment of the process; nothing is inherited.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd=folder,
            start_new_session=True,
        )
    # It outlives this object on purpose; `end` waits for it.
    process.returncode = 0
    return Session(process.pid, psutil.Process(process.pid).create_time())


def end(sessions: Iterable[Session], *, grace_seconds: float = 20) -> None:
    """Ask every process of the sessions to stop, and kill what has not after `grace_seconds`.

    The leaders are asked first: a scheduler or triggerer stops its own children in order.
    """
    alive = list(sessions)
    for session in alive:
        for process in session.members():
            if process.pid == session.leader:
                _signal(process, terminate=True)
    _wait_gone(alive, grace_seconds)
    for session in alive:
        for process in session.members():
            _signal(process, terminate=False)
    _wait_gone(alive, 5)


def _signal(process: psutil.Process, *, terminate: bool) -> None:
    try:
        process.terminate() if terminate else process.kill()
    except psutil.NoSuchProcess:
        return


def _wait_gone(sessions: Sequence[Session], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(session.members() for session in sessions) and time.monotonic() < deadline:
        time.sleep(0.1)
    for session in sessions:
        _reap(session.leader)


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
