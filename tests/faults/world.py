# SPDX-License-Identifier: Apache-2.0
"""One cell of the grid: a Dag run with its faults, and what was seen of it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from PIL import Image

from airflow_provider_bfl.simulator import SimulatorClient
from tests.faults.imitation import Raised, Returned, Task, Triggerer
from tests.faults.plants import Plant, hasten, plant_all

Form = Literal["one task", "three tasks"]
Mode = Literal["sync", "deferrable"]
Place = Literal["task_state_store", "journal_path"]


@dataclass(frozen=True)
class Cell:
    """
    What a Dag run comes to.

    :param posts: Generations BFL accepted, and would bill.
    :param tries: Tries used, of each task.
    :param error: The type of the last task's error; None when the result landed.
    :param says: What the error's message says about money.
    :param reattached: Whether the landed result says so.
    :param twice: Whether the record says ``possibly_billed_twice``.
    """

    posts: int
    tries: tuple[int, ...]
    error: str | None = None
    says: str = ""
    reattached: bool = False
    twice: bool = False


@dataclass(frozen=True)
class Row:
    """
    One fault, and what it leads to.

    :param fault: What happens, in words.
    :param one: The outcome of one task that submits, waits and lands; by mode where that matters. None: no such cell.
    :param three: The outcome of submit, sensor and transfer.
    :param bfl: Faults scripted in the simulator.
    :param plants: What is planted in workers and triggerers.
    :param arguments: Arguments of the submitting operator, each from a try on.
    :param waiting: Arguments of every operator that waits.
    :param read_timeout: Of the connection, seconds.
    :param retries: Of every task.
    :param triggerer: Whether a killed one is back ``soon`` or ``late``, after the deadline; or ``two at once``.
    :param event: An event that comes instead of the trigger's.
    :param retry_resumes: A retry enters the resume method with the old event, as Airflow 3.0 and 3.1 do.
    :param clear: When somebody clears the task, once.
    :param finish_at_try: The generation never ends by itself; it does when this try starts.
    """

    fault: str
    one: Cell | Mapping[Mode, Cell] | None
    three: Cell | Mapping[Mode, Cell] | None
    bfl: tuple[Mapping[str, Any], ...] = ()
    plants: tuple[Plant, ...] = ()
    arguments: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    waiting: Mapping[str, Any] = field(default_factory=dict)
    read_timeout: float | None = None
    retries: int = 2
    triggerer: Literal["soon", "late", "two at once"] = "soon"
    event: Mapping[str, Any] | None = None
    retry_resumes: bool = False
    clear: Literal["while deferred", "at the end"] | None = None
    finish_at_try: int | None = None

    def cell(self, form: Form, mode: Mode) -> Cell | None:
        """Return the declared outcome, or None where the fault makes no sense."""
        declared = self.one if form == "one task" else self.three
        return declared.get(mode) if isinstance(declared, Mapping) else declared


class World:
    """
    One Dag run.

    :param simulator: BFL, in a process of its own.
    :param root: A directory of this run's own.
    :param place: Where the journal is.
    """

    def __init__(
        self, row: Row, form: Form, mode: Mode, *, place: Place, simulator: SimulatorClient, root: Path
    ) -> None:
        self.row = row
        self.place = place
        self.simulator = simulator
        self.root = root
        self.triggerer = Triggerer(self)
        self._deferrable = mode == "deferrable"
        self._cleared = False
        makers: dict[str, Callable[[int], Any]] = {"generate": self._generation}
        if form == "three tasks":
            makers = {"submit": self._submit, "wait": self._sensor, "store": self._transfer}
        self._tasks = [Task(self, task_id, make) for task_id, make in makers.items()]

    def run(self) -> Cell:
        """Run the Dag, with its clears, and return what came of it."""
        for fault in self.row.bfl:
            self.simulator.fault(**fault)
        end = self._run_from(0)
        if self.row.clear == "at the end":
            # After a failure the failed task is cleared, after a success the whole run.
            end = self._run_from(self._last_run if isinstance(end, Raised) else 0, clear=True)
        return self._seen(end)

    def _run_from(self, first: int, *, clear: bool = False) -> Returned | Raised:
        end: Returned | Raised = Returned()
        for index, task in enumerate(self._tasks[first:], start=first):
            if clear and task.try_number:
                task.clear()
            self._cleared |= clear
            self._last_run = index
            end = task.run()
            if isinstance(end, Raised):
                break
        return end

    # What tasks and triggerer ask of it

    @property
    def polls(self) -> int:
        """Polls BFL answered."""
        return sum(task.polls for task in self.simulator.ledger.tasks)

    def attempt_starts(self, try_number: int) -> None:
        """Let the generation end when its time has come."""
        if try_number == self.row.finish_at_try:
            for task in self.simulator.ledger.tasks:
                self.simulator.finish(task.id)

    def is_cleared_while_deferred(self) -> bool:
        """Whether somebody clears the task that has just deferred."""
        clears = self.row.clear == "while deferred" and not self._cleared
        self._cleared |= clears
        return clears

    def prepare_process(self, try_number: int) -> None:
        """Make a forked child a worker or a triggerer of this run."""
        connection = self.simulator.connection()
        if self.row.read_timeout is not None:
            connection["extra"]["timeout"] = self.row.read_timeout
        os.environ["AIRFLOW_CONN_BFL_DEFAULT"] = json.dumps(connection)
        if self.place == "journal_path":
            os.environ["AIRFLOW__BFL__JOURNAL_PATH"] = f"file://{self.root}/journal"
        hasten()
        plant_all(self.row.plants, try_number=try_number, scratch=self.root)

    # The Dag

    def _generation(self, try_number: int) -> Any:
        return self._submitting(
            "generate", try_number, wait_for_completion=True, destination=self._destination, **self._waiting
        )

    def _submit(self, try_number: int) -> Any:
        return self._submitting("submit", try_number)

    def _submitting(self, task_id: str, try_number: int, **arguments: Any) -> Any:
        from airflow_provider_bfl.operators.generation import BflGenerationOperator

        arguments |= {"prompt": "a red fox", "parameters": {"width": 64, "height": 64}, "inline_wait": 0.0}
        for first_try, changed in self.row.arguments.items():
            arguments |= changed if try_number >= first_try else {}
        return BflGenerationOperator(task_id=task_id, deferrable=self._deferrable, **arguments)

    def _sensor(self, _: int) -> Any:
        from airflow_provider_bfl.sensors.generation import BflGenerationSensor

        return BflGenerationSensor(
            task_id="wait", polling_url=self._submitted["polling_url"], deferrable=self._deferrable, **self._waiting
        )

    def _transfer(self, _: int) -> Any:
        from airflow_provider_bfl.transfers.bfl_to_object_storage import BflToObjectStorageOperator

        return BflToObjectStorageOperator(
            task_id="store",
            polling_url=self._submitted["polling_url"],
            generation=self._submitted,
            destination=self._destination,
            deferrable=self._deferrable,
            **self._waiting,
        )

    @property
    def _submitted(self) -> Any:
        return self._tasks[0].xcom["return_value"]

    @cached_property
    def _waiting(self) -> dict[str, Any]:
        return {"poll_interval": 0.02, **self.row.waiting}

    @property
    def _destination(self) -> str:
        return f"file://{self.root}/landed/"

    # What was seen

    def _seen(self, end: Returned | Raised) -> Cell:
        ledger = self.simulator.ledger
        assert ledger.leaks == ()
        record = self._tasks[0].record or {}
        seen = Cell(
            posts=ledger.posts,
            tries=tuple(task.try_number for task in self._tasks),
            twice=bool(record.get("possibly_billed_twice")),
            error=end.error if isinstance(end, Raised) else None,
            says=end.message if isinstance(end, Raised) else "",
            reattached=isinstance(end, Returned) and self._landed()["reattached"],
        )
        if isinstance(end, Returned):
            assert self._landed()["possibly_billed_twice"] == seen.twice
        return seen

    def _landed(self) -> dict[str, Any]:
        """Return the landed result, having looked at what it speaks of."""
        result: dict[str, Any] = self._tasks[-1].xcom["return_value"]
        newest = self.simulator.ledger.tasks[-1]
        assert (result["id"], result["status"]) == (newest.id, "Ready")
        path = Path(urlsplit(result["uri"]).path)
        assert hashlib.sha256(path.read_bytes()).hexdigest() == result["sha256"]
        with Image.open(path) as image:
            image.load()
        assert json.loads(Path(f"{path}.json").read_text())["uri"] == result["uri"]
        files = [each for each in (self.root / "landed").rglob("*") if each.is_file()]
        assert not [each for each in files if each.name.startswith(".")], "half-written files are left over"
        return result
