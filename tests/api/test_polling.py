# SPDX-License-Identifier: Apache-2.0
"""When to poll next, and when a wait is over."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_bfl.api.messages import Phase, PollFailure, PollResult
from airflow_provider_bfl.api.polling import (
    MAX_CONSECUTIVE_FAILURES,
    MAX_INTERVAL_SECONDS,
    MIN_INTERVAL_SECONDS,
    NOT_FOUND_GRACE_SECONDS,
    NOT_FOUND_MIN_ANSWERS,
    Finished,
    Poller,
    TimedOut,
    Unreachable,
    Verdict,
    Wait,
    queue_delay,
)

START = 1_800_000_000.0
FAR = START + 100_000.0

PENDING = PollResult(id="x", status="Pending", phase=Phase.RUNNING)
NOT_FOUND = PollResult(id="x", status="Task not found", phase=Phase.NOT_FOUND)
READY = PollResult(id="x", status="Ready", phase=Phase.READY)
FAILURE = PollFailure("HTTP 500")


def unknown(status: str) -> PollResult:
    return PollResult(id="x", status=status, phase=Phase.UNKNOWN)


def poller(
    *,
    deadline: float = FAR,
    typical: float = 12.0,
    submitted_at: float | None = START,
    poll_interval: float | None = None,
    jitter: Callable[[], float] = lambda: 0.5,
) -> Poller:
    return Poller(
        deadline=deadline,
        typical_seconds=typical,
        submitted_at=submitted_at,
        poll_interval=poll_interval,
        jitter=jitter,
    )


def seconds(verdict: Verdict) -> float:
    assert isinstance(verdict, Wait)
    return verdict.seconds


class TestTheFirstPoll:
    @pytest.mark.parametrize(
        ("typical", "waited", "delay"),
        [(12.0, 0.0, 9.6), (12.0, 4.6, 5.0), (12.0, 9.6, 0.0), (12.0, 500.0, 0.0), (1.0, 0.0, 0.8)],
    )
    def test_comes_a_little_before_the_typical_time(self, typical: float, waited: float, delay: float) -> None:
        assert poller(typical=typical).first_delay(START + waited) == pytest.approx(delay)

    def test_comes_at_once_when_nobody_knows_when_it_was_submitted(self) -> None:
        assert poller(submitted_at=None).first_delay(START) == 0.0

    def test_comes_after_a_fixed_interval_when_there_is_one(self) -> None:
        assert poller(poll_interval=2).first_delay(START) == 2.0

    def test_never_comes_later_than_the_deadline(self) -> None:
        assert poller(deadline=START + 3).first_delay(START) == 3.0
        assert poller(deadline=START - 3).first_delay(START) == 0.0

    def test_survives_a_clock_that_went_back(self) -> None:
        assert poller(submitted_at=START + 5, deadline=START + 60).first_delay(START) == pytest.approx(14.6)


class TestTheInterval:
    @pytest.mark.parametrize(
        ("elapsed", "interval"),
        [
            (0.0, 0.5),
            (-60.0, 0.5),
            (1.0, 0.5),
            (5.0, 0.5),
            (12.0, 1.2),
            (30.0, 3.0),
            (45.0, 4.5),
            (90.0, 4.545),
            (9000.0, 4.545),
        ],
    )
    def test_grows_with_the_elapsed_time_within_bounds(self, elapsed: float, interval: float) -> None:
        verdict = poller().judge(PENDING, START + elapsed)
        assert seconds(verdict) == pytest.approx(interval, abs=0.001)

    @pytest.mark.parametrize("elapsed", [0.0, 5.0, 12.0, 45.0, 50.0, 90.0, 10_000.0])
    @pytest.mark.parametrize("jitter", [0.0, 0.25, 0.999999])
    def test_stays_within_half_a_second_and_five_whatever_the_jitter(self, elapsed: float, jitter: float) -> None:
        wait = seconds(poller(jitter=lambda: jitter).judge(PENDING, START + elapsed))
        assert MIN_INTERVAL_SECONDS <= wait <= MAX_INTERVAL_SECONDS

    @pytest.mark.parametrize("elapsed", [12.0, 30.0, 90.0, 10_000.0])
    def test_is_spread_so_that_many_waits_do_not_fall_into_step(self, elapsed: float) -> None:
        waits = [seconds(poller(jitter=random.Random(n).random).judge(PENDING, START + elapsed)) for n in range(500)]
        middle = statistics.mean(waits)
        assert min(waits) < 0.92 * middle
        assert max(waits) > 1.08 * middle

    def test_is_fixed_when_the_user_fixed_it(self) -> None:
        fixed = poller(poll_interval=0.7)
        assert [seconds(fixed.judge(PENDING, START + t)) for t in (0, 60, 9000)] == [0.7] * 3


class TestTheDeadline:
    def test_the_last_poll_is_at_the_deadline_itself(self) -> None:
        assert seconds(poller(deadline=START + 60.0).judge(PENDING, START + 59.9)) == pytest.approx(0.1)

    def test_after_it_the_wait_is_over_and_names_the_last_status(self) -> None:
        for reply in (PENDING, NOT_FOUND, unknown("Dreaming")):
            verdict = poller(deadline=START + 60.0).judge(reply, START + 60.0)
            assert verdict == TimedOut(reply.status)

    def test_a_result_found_after_it_still_counts(self) -> None:
        assert poller(deadline=START).judge(READY, START + 9000) == Finished(READY)

    def test_a_failed_last_poll_names_the_last_answer(self) -> None:
        waiting = poller(deadline=START + 60.0)
        waiting.judge(PENDING, START + 30)
        assert waiting.judge(FAILURE, START + 61) == TimedOut("Pending")
        assert poller(deadline=START).judge(FAILURE, START + 1) == TimedOut("never answered")

    @settings(deadline=None)
    @given(
        timeout=st.floats(0, 3600),
        typical=st.floats(0.5, 300),
        late=st.floats(-60, 7200),
        jitter=st.floats(0, 0.999),
        latency=st.floats(0, 10),
    )
    def test_a_poll_at_or_after_it_always_happens(
        self, timeout: float, typical: float, late: float, jitter: float, latency: float
    ) -> None:
        deadline = START + timeout
        waiting = poller(deadline=deadline, typical=typical, jitter=lambda: jitter)
        asked = START + late
        asked += waiting.first_delay(asked)
        for _ in range(20_000):
            verdict = waiting.judge(PENDING, asked + latency)
            if isinstance(verdict, TimedOut):
                break
            asked += latency + seconds(verdict)
        assert asked + latency >= deadline
        assert asked <= max(deadline, START + late) + latency + 1e-3


class TestFailedPolls:
    def test_five_in_a_row_end_the_wait(self) -> None:
        waiting = poller()
        for _ in range(MAX_CONSECUTIVE_FAILURES - 1):
            assert isinstance(waiting.judge(FAILURE, START), Wait)
        assert waiting.judge(FAILURE, START) == Unreachable(FAILURE)
        assert MAX_CONSECUTIVE_FAILURES == 5

    @pytest.mark.parametrize("answer", [PENDING, NOT_FOUND, unknown("Dreaming")])
    def test_any_answer_between_them_starts_the_count_anew(self, answer: PollResult) -> None:
        waiting = poller()
        for reply in [FAILURE] * 4 + [answer] + [FAILURE] * 4:
            assert isinstance(waiting.judge(reply, START), Wait)

    def test_four_and_then_a_result_is_a_result(self) -> None:
        waiting = poller()
        for _ in range(4):
            waiting.judge(FAILURE, START)
        assert waiting.judge(READY, START) == Finished(READY)

    def test_are_spaced_ever_further(self) -> None:
        waiting = poller()
        waits = [seconds(waiting.judge(FAILURE, START)) for _ in range(4)]
        assert waits == pytest.approx([1.0, 2.0, 4.0, 8.0])

    @pytest.mark.parametrize(
        ("retry_after", "wait"), [(None, 1.0), (0.0, 1.0), (7.0, 7.0), (3600.0, 30.0), (1e300, 30.0)]
    )
    def test_wait_as_long_as_asked_but_not_forever(self, retry_after: float | None, wait: float) -> None:
        assert seconds(poller().judge(PollFailure("HTTP 503", retry_after), START)) == pytest.approx(wait)

    def test_do_not_outlast_the_deadline(self) -> None:
        assert seconds(poller(deadline=START + 1).judge(PollFailure("x", 20.0), START)) == 1.0


class TestATaskThatIsNotFound:
    def test_is_tolerated_right_after_the_submit(self) -> None:
        waiting = poller()
        for elapsed in range(0, int(NOT_FOUND_GRACE_SECONDS), 2):
            assert isinstance(waiting.judge(NOT_FOUND, START + elapsed), Wait)
        assert waiting.judge(READY, START + 31) == Finished(READY)

    def test_is_believed_after_the_grace(self) -> None:
        waiting = poller()
        verdicts = [waiting.judge(NOT_FOUND, START + 100 + n) for n in range(NOT_FOUND_MIN_ANSWERS)]
        assert [isinstance(each, Wait) for each in verdicts] == [True, True, False]
        assert verdicts[-1] == Finished(NOT_FOUND)

    def test_must_be_said_several_times_in_a_row(self) -> None:
        waiting = poller()
        for reply in (NOT_FOUND, NOT_FOUND, PENDING, NOT_FOUND, NOT_FOUND):
            assert isinstance(waiting.judge(reply, START + 100), Wait)

    def test_has_its_grace_from_the_first_poll_when_the_submit_is_unknown(self) -> None:
        waiting = poller(submitted_at=None)
        waiting.first_delay(START)
        assert all(isinstance(waiting.judge(NOT_FOUND, START + n), Wait) for n in range(29))
        assert waiting.judge(NOT_FOUND, START + 31) == Finished(NOT_FOUND)


class TestStatuses:
    @pytest.mark.parametrize("phase", [Phase.READY, Phase.FAILED, Phase.REQUEST_MODERATED, Phase.CONTENT_MODERATED])
    def test_a_final_one_ends_the_wait_at_once(self, phase: Phase) -> None:
        result = PollResult(id="x", status="…", phase=phase)
        assert poller().judge(result, START) == Finished(result)

    def test_an_unknown_one_goes_on_with_one_warning_each(self) -> None:
        waiting = poller()
        verdicts = [waiting.judge(unknown(word), START) for word in ("Dreaming", "Dreaming", "Waking", "Dreaming")]
        warnings = [each.warning for each in verdicts if isinstance(each, Wait)]
        assert len(warnings) == 4
        assert "'Dreaming'" in (warnings[0] or "")
        assert "'Waking'" in (warnings[2] or "")
        assert warnings[1] is warnings[3] is None

    def test_a_known_one_warns_of_nothing(self) -> None:
        verdict = poller().judge(PENDING, START)
        assert isinstance(verdict, Wait)
        assert verdict.warning is None


class TestTheQueueDelay:
    @pytest.mark.parametrize(("queued", "delay"), [(0, 2.0), (3, 2.0), (4, 2.0), (20, 10.0), (60, 30.0), (3600, 30.0)])
    def test_is_half_of_the_time_already_waited_within_bounds(self, queued: float, delay: float) -> None:
        assert queue_delay(queued, None, jitter=lambda: 0.5) == pytest.approx(delay)

    def test_is_spread_by_half_to_both_sides(self) -> None:
        assert queue_delay(20, None, jitter=lambda: 0.0) == 5.0
        assert queue_delay(20, None, jitter=lambda: 1.0) == 15.0

    @pytest.mark.parametrize("jitter", [0.0, 0.999])
    def test_is_never_shorter_than_asked(self, jitter: float) -> None:
        assert queue_delay(0, 17.0, jitter=lambda: jitter) == 17.0


@dataclass
class Outcome:
    polls: int
    lag: float


def simulate(generation_seconds: float, *, typical: float, rng: random.Random) -> Outcome:
    """One wait for a generation that takes this long, over a network with a tenth of a second each way."""
    waiting = poller(typical=typical, jitter=rng.random)
    now = START + waiting.first_delay(START)
    polls = 0
    while True:
        polls += 1
        reply = READY if now - START >= generation_seconds else PENDING
        now += 0.1
        verdict = waiting.judge(reply, now)
        if isinstance(verdict, Finished):
            return Outcome(polls, now - START - generation_seconds)
        now += seconds(verdict)


class TestOverManyGenerations:
    @pytest.mark.parametrize("typical", [12.0, 25.0, 90.0])
    def test_few_polls_find_the_result_soon(self, typical: float) -> None:
        rng = random.Random(7)
        times = [typical * rng.lognormvariate(0, 0.35) for _ in range(2000)]
        outcomes = [simulate(time, typical=typical, rng=rng) for time in times]
        polls = statistics.mean(outcome.polls for outcome in outcomes)
        half_second_loop = statistics.mean(time / 0.6 for time in times)
        assert polls <= half_second_loop / 4
        assert statistics.median(outcome.lag / time for outcome, time in zip(outcomes, times, strict=True)) <= 0.10

    def test_a_quick_model_is_found_within_a_second_or_so(self) -> None:
        rng = random.Random(7)
        outcomes = [simulate(2.0 * rng.lognormvariate(0, 0.35), typical=2.0, rng=rng) for _ in range(500)]
        assert statistics.median(outcome.lag for outcome in outcomes) < 0.7
        assert max(outcome.lag for outcome in outcomes) < 2.0
