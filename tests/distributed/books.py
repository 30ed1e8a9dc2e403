# SPDX-License-Identifier: Apache-2.0
"""
Whether what BFL billed, what the tasks say, and what is in the storage agree; and who had how much of the account.

Pure. The simulator's ledger is BFL's side, outcomes and images are the user's. A generation is known by its prompt,
which is unique, and belongs to the workload that its first word names.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeVar

from airflow_provider_bfl.simulator import LedgerView, TaskRow

Item = TypeVar("Item")

#: Active generations that BFL allows an account.
SLOTS = 24


@dataclass(frozen=True)
class Outcome:
    """
    How a generation that was asked for ended, as its task or its manifest row says.

    :param ended: Whether there is a result.
    :param doubtful: Whether it is marked ``possibly_billed_twice``.
    """

    prompt: str
    ended: Literal["landed", "moderated"]
    id: str | None = None
    uri: str | None = None
    sha256: str | None = None
    cost: float | None = None
    doubtful: bool = False


@dataclass(frozen=True)
class Books:
    """
    Both sides of one run.

    :param wanted: The prompt of every generation that was asked for.
    :param images: SHA-256 of every stored result, by URI.
    :param balance: Credits of the account before and after.
    :param slots: Active generations that the account allows.
    """

    wanted: Collection[str]
    outcomes: Sequence[Outcome]
    ledger: LedgerView
    images: Mapping[str, str]
    balance: tuple[float, float]
    slots: int = SLOTS

    @property
    def abandoned(self) -> list[TaskRow]:
        """Generations that were billed and whose result nobody has: each a POST whose answer never reached a task."""
        claimed = {outcome.id for outcome in self.outcomes}
        return [task for task in self.ledger.tasks if not task.refunded and task.id not in claimed]

    @property
    def doubtful(self) -> list[Outcome]:
        """Outcomes that say they may have been billed twice."""
        return [outcome for outcome in self.outcomes if outcome.doubtful]

    def disagreements(self) -> list[str]:
        """Return a sentence for everything that does not add up; none when all agree."""
        checks = (self._every_wish_once, self._posts, self._results, self._images, self._credits, self._limits)
        return [sentence for check in checks for sentence in check()]

    def _every_wish_once(self) -> Iterable[str]:
        counts = Counter(outcome.prompt for outcome in self.outcomes)
        for prompt in self.wanted:
            if counts[prompt] != 1:
                yield f"{prompt!r} has {counts[prompt]} outcomes"
        for prompt in counts.keys() - set(self.wanted):
            yield f"{prompt!r} has an outcome and was never asked for"

    def _posts(self) -> Iterable[str]:
        marked = {outcome.prompt for outcome in self.doubtful}
        for task in self.abandoned:
            if prompt_of(task) not in marked:
                yield f"{task.id} ({prompt_of(task)!r}) was billed, is nobody's, and no result says so"
        for outcome, times in Counter(outcome.id for outcome in self.outcomes if outcome.id).items():
            if times > 1:
                yield f"{outcome} is the result of {times} tasks"

    def _results(self) -> Iterable[str]:
        tasks = {task.id: task for task in self.ledger.tasks}
        for outcome in self.outcomes:
            if outcome.ended == "moderated":
                if not any(prompt_of(task) == outcome.prompt and "Moderated" in task.status for task in tasks.values()):
                    yield f"{outcome.prompt!r} ended as moderated, and BFL moderated no such thing"
                continue
            task = tasks.get(outcome.id or "")
            if task is None or prompt_of(task) != outcome.prompt or task.status != "Ready":
                yield f"{outcome.prompt!r} has the result of {outcome.id}, which is not a ready generation of it"
            elif task.cost != outcome.cost:
                yield f"{outcome.prompt!r} says it cost {outcome.cost}, BFL says {task.cost}"

    def _images(self) -> Iterable[str]:
        claimed = {outcome.uri: outcome.sha256 for outcome in self.outcomes if outcome.ended == "landed"}
        if len(claimed) != sum(outcome.ended == "landed" for outcome in self.outcomes):
            yield "two results have one URI"
        for uri, digest in claimed.items():
            if self.images.get(uri or "") != digest:
                yield f"{uri} is missing or has other bytes than its result says"
        for uri in self.images.keys() - claimed.keys():
            yield f"{uri} is stored and is nobody's result"

    def _credits(self) -> Iterable[str]:
        billed = sum(task.cost for task in self.ledger.tasks if not task.refunded)
        told = sum(outcome.cost or 0.0 for outcome in self.outcomes) + sum(task.cost for task in self.abandoned)
        gone = self.balance[0] - self.balance[1]
        if len({round(figure, 3) for figure in (billed, told, gone, self.ledger.spent)}) > 1:
            yield (
                f"credits: generations cost {billed:g}, results and abandoned ones {told:g}, the account lost "
                f"{gone:g}, the ledger says {self.ledger.spent:g}"
            )

    def _limits(self) -> Iterable[str]:
        if self.ledger.max_active > self.slots:
            yield f"{self.ledger.max_active} generations were active at once"
        for leak in self.ledger.leaks:
            yield f"the key was sent to {leak.role} {leak.path}"

    def report(self) -> str:
        """Return the ledger as a table, a line per workload."""
        tasks, outcomes = by_workload(self.ledger.tasks, prompt_of), by_workload(self.outcomes, lambda o: o.prompt)
        abandoned, wanted = by_workload(self.abandoned, prompt_of), by_workload(self.wanted, str)
        lines = [
            _line("workload", *_COLUMNS),
            *(
                _line(each, *_cells(wanted[each], tasks[each], outcomes[each], abandoned[each]))
                for each in sorted(wanted)
            ),
        ]
        lines.append(_line("in all", *_cells(self.wanted, self.ledger.tasks, self.outcomes, self.abandoned)))
        answers = self.ledger.answers
        posts = sum(number for kind, number in answers.items() if kind.startswith("submit"))
        lines.append(
            f"{posts} requests to submit, {answers.get('submit 429', 0)} of them answered 429; "
            f"{sum(number for kind, number in answers.items() if kind.startswith('poll'))} polls, "
            f"{sum(number for kind, number in answers.items() if kind.startswith('delivery'))} downloads; at most "
            f"{self.ledger.max_active} generations at once; {len(self.images)} images; balance "
            f"{self.balance[0]:.10g} - {self.ledger.spent:.10g} = {self.balance[1]:.10g} credits"
        )
        return "\n".join(lines)


_COLUMNS = ("wanted", "accepted", "landed", "moderated", "lost", "marked", "credits")


def _cells(
    wanted: Collection[str], tasks: Sequence[TaskRow], outcomes: Sequence[Outcome], abandoned: Sequence[TaskRow]
) -> list[str]:
    ends = Counter(outcome.ended for outcome in outcomes)
    numbers = [len(wanted), len(tasks), ends["landed"], ends["moderated"], len(abandoned)]
    numbers.append(sum(outcome.doubtful for outcome in outcomes))
    return [*map(str, numbers), f"{sum(task.cost for task in tasks if not task.refunded):g}"]


def _line(name: str, *cells: str) -> str:
    return f"{name:<14}" + "".join(f"{cell:>11}" for cell in cells)


def prompt_of(task: TaskRow) -> str:
    """Return the prompt a generation was submitted with."""
    return str(task.request.get("prompt"))


def workload_of(prompt: str) -> str:
    """Return the workload a prompt belongs to."""
    return prompt.partition(" ")[0]


def by_workload(items: Iterable[Item], prompt: Callable[[Item], str]) -> dict[str, list[Item]]:
    """Group items by the workload of their prompts."""
    groups: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        groups[workload_of(prompt(item))].append(item)
    return groups


@dataclass(frozen=True)
class Share:
    """
    What one workload had of the account.

    :param slots: Generations it had active on average, over the time in which every workload wanted slots.
    :param longest_gap_seconds: The longest time it had none active between its first and its last.
    :param finished: How many of its generations ended in each interval of the run.
    """

    slots: float
    longest_gap_seconds: float
    finished: tuple[int, ...]


def shares(tasks: Sequence[TaskRow], *, interval_seconds: float) -> tuple[dict[str, Share], tuple[float, float]]:
    """
    Return each workload's share, and the time (seconds after the first submit) in which all had generations to submit.

    That time begins with the first submit of the workload that began last and ends with the last submit of the one
    that was done first.
    """
    groups = {name: sorted(_active(rows)) for name, rows in by_workload(tasks, prompt_of).items()}
    start = min(spans[0][0] for spans in groups.values())
    end = max(last for spans in groups.values() for _, last in spans)
    contended = (
        max(spans[0][0] for spans in groups.values()),
        min(spans[-1][0] for spans in groups.values()),
    )
    found = {}
    for name, spans in groups.items():
        ends = Counter(int((last - start) // interval_seconds) for _, last in spans)
        found[name] = Share(
            slots=_mean_active(spans, *contended),
            longest_gap_seconds=_longest_gap(spans),
            finished=tuple(ends[number] for number in range(int((end - start) // interval_seconds) + 1)),
        )
    return found, (contended[0] - start, contended[1] - start)


def _active(tasks: Iterable[TaskRow]) -> list[tuple[float, float]]:
    return [(task.submitted_at, task.finishes_at) for task in tasks if task.finishes_at is not None]


def _mean_active(spans: Sequence[tuple[float, float]], begin: float, end: float) -> float:
    if end <= begin:
        return 0.0
    return sum(max(0.0, min(last, end) - max(first, begin)) for first, last in spans) / (end - begin)


def _longest_gap(spans: Sequence[tuple[float, float]]) -> float:
    gap, busy_until = 0.0, spans[0][1]
    for _, (first, last) in pairwise(spans):
        gap = max(gap, first - busy_until)
        busy_until = max(busy_until, last)
    return gap
