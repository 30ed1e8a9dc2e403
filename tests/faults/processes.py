# SPDX-License-Identifier: Apache-2.0
"""Processes that may be killed: a forked child does one piece of work and hands back what came of it."""

from __future__ import annotations

import gc
import json
import os
import pickle
import select
import signal
import traceback
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any, NoReturn

#: Far more than any piece of work here takes; a child that needs it hangs.
_PATIENCE_SECONDS = 60.0


class Killed:
    """What a child that died of SIGKILL hands back."""


class Child:
    """
    One piece of work in a process of its own, started at once.

    :param work: What the child does; its result has to be picklable. An exception is this harness' own failure.
    """

    def __init__(self, work: Callable[[], Any]) -> None:
        self._answer, writing = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            _live(work, writing)
        os.close(writing)

    def result(self) -> Any:
        """Wait for the end of the child and return its result, or :class:`Killed`."""
        with os.fdopen(self._answer, "rb") as answer:
            ended, _, _ = select.select([answer], [], [], _PATIENCE_SECONDS)
            if not ended:
                os.kill(self._pid, signal.SIGKILL)
            told = answer.read()
        _, status = os.waitpid(self._pid, 0)
        assert ended, f"the child did not end within {_PATIENCE_SECONDS:g} s"
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            return Killed()
        assert told, f"the child ended with status {status} and said nothing"
        succeeded, result = pickle.loads(told)
        assert succeeded, f"the child failed:\n{result}"
        return result


def _live(work: Callable[[], Any], writing: int) -> NoReturn:
    # Nothing of the parent's may run here: no exit handler, no fixture's end. A collection would only copy its pages.
    gc.disable()
    try:
        try:
            told = pickle.dumps((True, work()))
        except BaseException:  # noqa: BLE001
            told = pickle.dumps((False, traceback.format_exc()))
        with os.fdopen(writing, "wb") as answer:
            answer.write(told)
    finally:
        os._exit(0)


class FileDict(MutableMapping[str, Any]):
    """A mapping that all processes share: one JSON file, read and written whole."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _read(self) -> dict[str, Any]:
        return json.loads(self._path.read_text()) if self._path.exists() else {}

    def _write(self, items: dict[str, Any]) -> None:
        self._path.write_text(json.dumps(items))

    def __getitem__(self, key: str) -> Any:
        return self._read()[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._write(self._read() | {key: value})

    def __delitem__(self, key: str) -> None:
        items = self._read()
        del items[key]
        self._write(items)

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def clear(self) -> None:
        """Remove everything."""
        self._write({})
