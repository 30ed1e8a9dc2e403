# SPDX-License-Identifier: Apache-2.0
"""The simulator as a Python object: its own event loop in a daemon thread, so anything can be tested against it."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

from airflow_provider_bfl.simulator.client import SimulatorClient

_START_TIMEOUT_SECONDS = 30.0


class Simulator(SimulatorClient):
    """
    A local BFL API on loopback sockets.

    Everything a ``SimulatorClient`` can do works on it too; other processes reach it through ``control_url``.

    :param latency_scale: Factor on every model's typical time; 0.01 makes a 12 s model take 0.12 s.
    :param jitter: Largest relative deviation of a task's time.
    :param starting_credits: Balance of every key.
    :param keys: The keys that exist; None takes every well-formed ``bfl_…`` key.
    :param port: First of nine consecutive ports; 0 takes free ones.
    :param seed: Makes task ids, seeds and times repeat from run to run; None draws new ones.
    """

    def __init__(
        self,
        *,
        latency_scale: float = 1.0,
        jitter: float = 0.1,
        starting_credits: float = 10_000.0,
        keys: Iterable[str] | None = None,
        port: int = 0,
        seed: int | None = None,
    ) -> None:
        super().__init__("")
        self._setup: dict[str, Any] = {
            "latency_scale": latency_scale,
            "jitter": jitter,
            "starting_credits": starting_credits,
            "keys": None if keys is None else frozenset(keys),
            "port": port,
            "seed": seed,
        }
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    def start(self) -> Self:
        """
        Serve from a daemon thread; returns when every listener accepts connections.

        :raises OSError: when a fixed port is taken.
        :raises RuntimeError: when it is already running.
        """
        if self._thread is not None:
            raise RuntimeError("The simulator is already running.")
        ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="bfl-simulator", daemon=True)
        self._thread.start()
        try:
            ready.result(_START_TIMEOUT_SECONDS)
        except BaseException:
            self._thread = None
            raise
        return self

    def stop(self) -> None:
        """Close every listener and end the thread; does nothing when it is not running."""
        if self._thread is None or self._loop is None or self._stopping is None:
            return
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self, ready: Future[None]) -> None:
        try:
            asyncio.run(self._serve(ready))
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)

    async def _serve(self, ready: Future[None]) -> None:
        # Imported here so that the package, its client and its pytest plugin load no HTTP library.
        from airflow_provider_bfl.simulator.server import Server
        from airflow_provider_bfl.simulator.world import Settings, World

        setup = self._setup
        settings = Settings(latency_scale=setup["latency_scale"], jitter=setup["jitter"])
        world = World(setup["keys"], setup["starting_credits"], settings, random.Random(setup["seed"]))
        server = Server(world, port=setup["port"])
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        await server.start()
        self._addresses = server.addresses
        self._control_url = server.addresses["control"]
        ready.set_result(None)
        try:
            await self._stopping.wait()
        finally:
            await server.stop()
