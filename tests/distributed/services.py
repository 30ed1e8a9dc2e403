# SPDX-License-Identifier: Apache-2.0
"""
Redis and PostgreSQL as Debian installs them, on free loopback ports, their data in a folder that is thrown away.

``python -m tests.distributed.services`` installs them where root may and they are missing.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from demo.airflow_api import wait_until
from demo.local_airflow import tail
from demo.processes import end, spawn

#: PostgreSQL refuses to run as root.
_UNPRIVILEGED = "postgres"

_PACKAGES = ("redis-server", "postgresql")

#: Seconds between tries: a mirror that is being updated, or another apt that holds the lock, is well again soon.
_APT_PAUSES = (5, 15, 30, 60)

#: What is written does not have to outlive this machine.
_CARELESS = ("fsync", "synchronous_commit", "full_page_writes")


class MissingServerError(RuntimeError):
    """A server's program is not installed; the message says what to install."""


@dataclass(frozen=True)
class Programs:
    """Where the servers' programs are; ``postgres_bin`` is a folder."""

    redis_server: Path
    postgres_bin: Path


def find_programs() -> Programs:
    """
    Look in the PATH and where Debian puts PostgreSQL's programs, which is outside it.

    :raises MissingServerError: one of them is not there.
    """
    redis_server = shutil.which("redis-server")
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    on_path = shutil.which("initdb")
    postgres_bin = versions[-1] if versions else Path(on_path).resolve().parent if on_path else None
    if redis_server is None or postgres_bin is None:
        missing = " and ".join(
            name for name, found in (("redis-server", redis_server), ("postgresql", postgres_bin)) if found is None
        )
        message = f"{missing} not found. On Debian: apt-get install --no-install-recommends {' '.join(_PACKAGES)}"
        raise MissingServerError(message)
    return Programs(Path(redis_server), postgres_bin)


@contextmanager
def redis(programs: Programs) -> Iterator[str]:
    """Run Redis without persistence and give its URL."""
    port = _free_port()
    command = [str(programs.redis_server), "--bind", "127.0.0.1", "--port", str(port), "--save", ""]
    with _folder() as folder, _running(command, folder=folder, port=port):
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def postgres(programs: Programs) -> Iterator[str]:
    """Run a new PostgreSQL and give the address of its empty database, ``user@host:port/name``."""
    with _folder() as folder:
        demoted: list[str] = []
        if os.geteuid() == 0:
            shutil.chown(folder, _UNPRIVILEGED, _UNPRIVILEGED)
            demoted = ["setpriv", f"--reuid={_UNPRIVILEGED}", f"--regid={_UNPRIVILEGED}", "--clear-groups"]
        initdb = [str(programs.postgres_bin / "initdb"), "--auth=trust", "--username=airflow", "--no-sync"]
        made = subprocess.run(
            [*demoted, *initdb, f"--pgdata={folder}/data"], cwd=folder, capture_output=True, text=True, check=False
        )
        if made.returncode:
            message = f"initdb failed:\n{made.stdout}{made.stderr}"
            raise RuntimeError(message)
        port = _free_port()
        command = [*demoted, str(programs.postgres_bin / "postgres"), "-D", f"{folder}/data"]
        command += ["-c", "listen_addresses=127.0.0.1", "-c", f"port={port}", "-c", f"unix_socket_directories={folder}"]
        command += ["-c", "max_connections=300"]
        for setting in _CARELESS:
            command += ["-c", f"{setting}=off"]
        with _running(command, folder=folder, port=port):
            yield f"airflow@127.0.0.1:{port}/postgres"


@contextmanager
def _running(command: Sequence[str], *, folder: Path, port: int) -> Iterator[None]:
    log = folder / "server.log"
    session = spawn(command, environment={"PATH": os.environ.get("PATH", os.defpath)}, log=log, folder=folder)
    try:

        def answers() -> bool:
            if not session.members():
                message = f"{command[0]} has ended by itself:\n{tail(log)}"
                raise RuntimeError(message)
            return _accepts(port)

        wait_until(answers, 60, f"port {port} to answer", interval_seconds=0.1)
        yield
    finally:
        end([session])


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="airflow-bfl-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def install() -> None:
    """
    Install what is missing with apt, where this is root on a Debian; its own services are not started.

    :raises MissingServerError: it is still missing; why is said by apt, or this is neither.
    """
    with suppress(MissingServerError):
        find_programs()
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"Installing {' and '.join(_PACKAGES)} with apt", flush=True)
        apt_get("update")
        apt_get("install", "--yes", "--no-install-recommends", *_PACKAGES)
    find_programs()


def apt_get(*arguments: str) -> None:
    """Run apt-get, again while it fails; says what it said when it gives up."""
    # Run level 1 is what keeps Debian's packages from starting their services.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for pause in (*_APT_PAUSES, None):
        done = subprocess.run(
            ["apt-get", "--quiet", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        # `update` says success when an index could not be fetched.
        if done.returncode == 0 and "Failed to fetch" not in done.stdout:
            return
        if pause is None:
            print(f"apt-get {arguments[0]} has failed:\n{done.stdout}", file=sys.stderr)
            return
        time.sleep(pause)


if __name__ == "__main__":
    try:
        install()
    except MissingServerError as missing:
        print(missing, file=sys.stderr)
        sys.exit(2)
