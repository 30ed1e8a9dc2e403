# SPDX-License-Identifier: Apache-2.0
"""
Mapped generations and a batch on one account of 24 slots, in an Airflow of several machines that loses two of them.

Half of the mapped tasks stand in a pool of half the account's slots, the other half rely on 429 alone; every tenth
waits in its worker. ``DISTRIBUTED_MAPPED`` and ``DISTRIBUTED_BATCH`` say how many.
"""

from __future__ import annotations

import os
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import pytest

from airflow_provider_bfl.simulator import LedgerView, Simulator
from demo.airflow_api import wait_until
from tests.distributed.books import SLOTS, Books, Share, shares, workload_of
from tests.distributed.cluster import SECOND_TRIGGERER, Cluster, cpu_seconds, running_cluster
from tests.distributed.outcomes import MANIFEST, of_manifest, of_mapped, stored_images

pytestmark = [pytest.mark.distributed, pytest.mark.airflow3, pytest.mark.timeout(1800)]

MAPPED = int(os.environ.get("DISTRIBUTED_MAPPED", "200"))
BATCH = int(os.environ.get("DISTRIBUTED_BATCH", "500"))
COUNTS = {"pooled": MAPPED // 2, "unpooled": MAPPED - MAPPED // 2}

POOL, POOL_SLOTS = "bfl", SLOTS // 2
CREDITS = 100_000.0
RUN_SECONDS = 1500
INTERVAL_SECONDS = 20

#: A workload is starved when it has nothing active for so long: more than a lost worker is noticed in, and the longest
#: pause after a 429.
STARVED_SECONDS = 150
#: Or when it has less than this of the account while all want slots. On two cores it is the processor that keeps mapped
#: tasks from having more.
LEAST_SLOTS = 0.25

DAGS = {"mapped": "distributed_mapped", "batch": "distributed_batch"}


@dataclass(frozen=True)
class Finished:
    """The runs and what was seen of them."""

    states: dict[str, str]
    tries: Counter[int]
    batch_tries: int
    shares: dict[str, Share]
    contended: tuple[float, float]
    cpu_seconds: dict[str, float]
    books: Books = field(repr=False)


class Watch:
    """What happened when, and what it cost in CPU time; from the start of the runs."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._began = time.time()
        self._before = {name: cluster.cpu_seconds(name) for name in cluster.sessions}
        self._lost: defaultdict[str, float] = defaultdict(float)

    def note(self, event: str) -> None:
        print(f"{time.time() - self._began:5.0f} s  {event}", flush=True)

    def kill(self, name: str) -> None:
        self._lost[name] += self._cluster.cpu_seconds(name) - self._before[name]
        self._before[name] = 0.0
        self._cluster.kill(name)

    def cpu_seconds(self) -> dict[str, float]:
        """Return the CPU time by kind of component; that of one that was started again with its start."""
        used: defaultdict[str, float] = defaultdict(float)
        for name in self._cluster.sessions:
            kind = name.rstrip("-12")
            used[kind] += self._lost[name] + self._cluster.cpu_seconds(name) - self._before[name]
        return dict(used)


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator(starting_credits=CREDITS) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def landed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("landed")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, simulator: Simulator, landed: Path) -> Iterator[Cluster]:
    environment = {
        "DISTRIBUTED_DESTINATION": f"file://{landed}/",
        "DISTRIBUTED_MAPPED": str(MAPPED),
        "DISTRIBUTED_BATCH": str(BATCH),
        "DISTRIBUTED_POOL": POOL,
    }
    home = tmp_path_factory.mktemp("cluster")
    with running_cluster(home, dags_folder=Path(__file__).parent / "dags", environment=environment) as cluster:
        cluster.wait_workers()
        cluster.api.put_connection("bfl_default", **simulator.connection())
        cluster.api.put_pool(POOL, POOL_SLOTS)
        for dag_id in DAGS.values():
            cluster.api.wait_for_dag(dag_id, timeout_seconds=180)
            cluster.api.unpause(dag_id)
        yield cluster


@pytest.fixture(scope="module")
def finished(cluster: Cluster, simulator: Simulator, landed: Path) -> Finished:
    """Both runs, with a triggerer and the worker of the batch killed on the way."""
    api = cluster.api
    runs = {dag_id: api.trigger(dag_id) for dag_id in DAGS.values()}
    watch = Watch(cluster)
    _lose_a_triggerer(cluster, simulator, watch)
    _lose_the_worker_of_the_batch(cluster, simulator, landed, watch, runs[DAGS["batch"]])

    def state(dag_id: str) -> str:
        return str(api.run(dag_id, runs[dag_id])["state"])

    wait_until(
        lambda: all(state(dag_id) in ("success", "failed") for dag_id in runs),
        RUN_SECONDS,
        "both runs to end",
        interval_seconds=2,
    )
    watch.note("both runs have ended")
    used = watch.cpu_seconds()
    rows = cluster.query("select dag_id, try_number from task_instance where state = 'success'")
    found, contended = shares(simulator.ledger.tasks, interval_seconds=INTERVAL_SECONDS)
    return Finished(
        states={dag_id: state(dag_id) for dag_id in runs},
        tries=Counter(tries for dag_id, tries in rows if dag_id == DAGS["mapped"]),
        batch_tries=sum(tries for dag_id, tries in rows if dag_id == DAGS["batch"]),
        books=_books(cluster, simulator, landed, runs),
        shares=found,
        contended=contended,
        cpu_seconds=used,
    )


def _lose_a_triggerer(cluster: Cluster, simulator: Simulator, watch: Watch) -> None:
    wait_until(lambda: len(cluster.triggers_held()) == 2, 300, "triggers in both triggerers")
    held = cluster.triggers_held()
    watch.kill(SECOND_TRIGGERER)
    watch.note(
        f"killed a triggerer (the two had {sorted(held.values())} triggers) after {simulator.ledger.posts} POSTs"
    )


def _lose_the_worker_of_the_batch(
    cluster: Cluster, simulator: Simulator, landed: Path, watch: Watch, run_id: str
) -> None:
    wait_until(lambda: simulator.ledger.posts >= (MAPPED + BATCH) / 3, 900, "a third of the POSTs", interval_seconds=1)
    found: list[tuple[str, psutil.Process]] = []

    def running() -> bool:
        found[:] = filter(None, [cluster.worker_of(DAGS["batch"], run_id, "generate")])
        return bool(found)

    wait_until(running, 120, "the batch to run in a worker")
    [(worker, process)] = found
    used, stored = cpu_seconds(process), len(stored_images(landed / "batch"))
    watch.kill(worker)
    watch.note(f"killed {worker}, which ran the batch, after {simulator.ledger.posts} POSTs")
    watch.note(f"of its {stored} images so far each took {1000 * used / max(stored, 1):.0f} ms of CPU time")
    cluster.start_more(worker)
    cluster.start_more(SECOND_TRIGGERER)
    watch.note("started a new worker and a new triggerer in their place")


def _books(cluster: Cluster, simulator: Simulator, landed: Path, runs: dict[str, str]) -> Books:
    outcomes = [
        outcome
        for task_id, count in COUNTS.items()
        for outcome in of_mapped(cluster.api, DAGS["mapped"], runs[DAGS["mapped"]], task_id, count)
    ]
    rows = of_manifest(landed / "batch" / MANIFEST)
    outcomes += [replace(outcome, prompt=f"batch {position}") for position, outcome in rows if outcome]
    ledger = simulator.ledger
    return Books(
        wanted=[f"{name} {number}" for name, count in {**COUNTS, "batch": BATCH}.items() for number in range(count)],
        outcomes=outcomes,
        ledger=ledger,
        images=stored_images(landed),
        balance=(CREDITS, sum(ledger.credits.values())),
    )


def _seconds_to_store(books: Books) -> dict[str, float]:
    """Return the median, by workload, of the seconds from a generation's end to its stored object."""
    ended = {task.id: task.finishes_at for task in books.ledger.tasks}
    delays: defaultdict[str, list[float]] = defaultdict(list)
    for outcome in books.outcomes:
        finished_at = ended.get(outcome.id or "")
        if finished_at is not None and outcome.uri:
            stored_at = Path(outcome.uri.removeprefix("file://")).stat().st_mtime
            delays[workload_of(outcome.prompt)].append(stored_at - finished_at)
    return {name: statistics.median(each) for name, each in delays.items()}


def _refusals(ledger: LedgerView) -> list[int]:
    start = min(task.submitted_at for task in ledger.tasks)
    refused = [row.time for row in ledger.of_role("submit") if row.status == 429]
    counts = Counter(int((time_ - start) // INTERVAL_SECONDS) for time_ in refused)
    return [counts[number] for number in range(max(counts, default=-1) + 1)]


def _row(name: str, numbers: Iterable[int]) -> str:
    return f"{name:>15}" + "".join(f"{number:4d}" for number in numbers)


class TestOneAccountForAll:
    def test_both_runs_succeed(self, finished: Finished) -> None:
        print("\n" + finished.books.report())
        used = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in sorted(finished.cpu_seconds.items()))
        print(f"CPU time: {used}")
        print(f"tries of mapped tasks: {dict(sorted(finished.tries.items()))}; of the batch: {finished.batch_tries}")
        assert finished.states == dict.fromkeys(DAGS.values(), "success")

    def test_posts_images_rows_and_credits_agree(self, finished: Finished) -> None:
        assert finished.books.disagreements() == []

    def test_a_lost_image_would_be_noticed(self, finished: Finished) -> None:
        books = finished.books
        assert replace(books, images=dict(list(books.images.items())[1:])).disagreements()

    def test_a_second_post_would_be_noticed(self, finished: Finished) -> None:
        books = finished.books
        once, *_ = (task for task in books.ledger.tasks if task not in books.abandoned)
        tasks = (*books.ledger.tasks, replace(once, id="the same again"))
        spent = books.ledger.spent + once.cost
        told = replace(
            books,
            ledger=replace(books.ledger, tasks=tasks, spent=spent),
            balance=(books.balance[0], books.balance[1] - once.cost),
        ).disagreements()
        assert any("was billed, is nobody's" in sentence for sentence in told)

    def test_every_generation_landed(self, finished: Finished) -> None:
        assert Counter(outcome.ended for outcome in finished.books.outcomes) == {"landed": MAPPED + BATCH}

    def test_the_slots_are_full_and_never_exceeded(self, finished: Finished) -> None:
        assert finished.books.ledger.max_active == SLOTS

    def test_a_full_account_is_waited_for(self, finished: Finished) -> None:
        assert finished.books.ledger.answers["submit 429"] > 0

    def test_the_batch_went_on_where_its_worker_was_killed(self, finished: Finished) -> None:
        assert finished.batch_tries == 2
        # Of what it had in flight at most the POSTs under way were in doubt.
        assert len(finished.books.abandoned) <= SLOTS

    def test_no_workload_starved(self, finished: Finished) -> None:
        begin, end = finished.contended
        ledger, delays = finished.books.ledger, _seconds_to_store(finished.books)
        print(f"\nAll want slots from {begin:.0f} s to {end:.0f} s; numbers are for every {INTERVAL_SECONDS} s:")
        for name, share in sorted(finished.shares.items()):
            print(
                f"{name:<10}{share.slots:5.1f} slots on average, none for at most {share.longest_gap_seconds:.0f} s, "
                f"stored {delays[name]:.1f} s after its end (median)"
            )
            print(_row("finished", share.finished))
        print(f"of all    {sum(share.slots for share in finished.shares.values()):5.1f} of {SLOTS} slots on average")
        print(_row("429", _refusals(ledger)))
        for share in finished.shares.values():
            assert share.longest_gap_seconds < STARVED_SECONDS
            assert share.slots >= LEAST_SLOTS
