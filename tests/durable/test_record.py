# SPDX-License-Identifier: Apache-2.0
"""The record of one task instance, and what a later attempt makes of it."""

from __future__ import annotations

import json
from itertools import product
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_bfl.arguments import OnAmbiguousSubmit, OnStaleState
from airflow_provider_bfl.durable.record import (
    RECORD_VERSION,
    Policies,
    Reattach,
    Record,
    State,
    Submit,
    decide,
    fingerprint,
)
from airflow_provider_bfl.exceptions import BflError, BflJournalError, BflStaleStateError, BflUnresolvedSubmitError

from .conftest import NOW, SUBMISSION, record

STATES = get_args(State)


class TestARecord:
    @pytest.mark.parametrize("state", STATES)
    def test_comes_back_from_json_as_it_was(self, state: str) -> None:
        before = record(state, possibly_billed_twice=True)
        assert Record.from_json(json.loads(json.dumps(before.to_json()))) == before

    def test_is_small(self) -> None:
        assert len(json.dumps(record("stored").to_json())) < 2048

    def test_ignores_a_field_that_a_later_version_added(self) -> None:
        assert Record.from_json(record("submitted").to_json() | {"new": 1}) == record("submitted")

    @pytest.mark.parametrize("version", [0, 2, 99, "1", None, [1]])
    def test_of_another_version_is_an_error_and_not_no_record(self, version: object) -> None:
        with pytest.raises(BflJournalError, match="Nothing was submitted"):
            Record.from_json(record("submitted").to_json() | {"version": version})

    @pytest.mark.parametrize(
        "value", [None, "", "text", 7, [], {}, {"state": "submitted"}, {"version": RECORD_VERSION}]
    )
    def test_that_is_none_is_an_error_and_not_no_record(self, value: object) -> None:
        with pytest.raises(BflJournalError, match="Nothing was submitted"):
            Record.from_json(value)

    @pytest.mark.parametrize(
        "damage",
        [{"state": "paid"}, {"state": None}, {"state": ["submitted"]}, {"id": None}, {"id": ""}, {"id": 7},
         {"fingerprint": None}, {"model": 7}, {"epoch": "2"}, {"epoch": None}, {"deadline": "soon"},
         {"submitted_at": {}},
         {"polling_url": 7}, {"polling_url": ["x"]}, {"cost": "3"}, {"result": "x"}, {"queued_since": []}],
        ids=str,
    )  # fmt: skip
    def test_that_is_damaged_is_an_error(self, damage: dict[str, Any]) -> None:
        with pytest.raises(BflJournalError, match="Nothing was submitted"):
            Record.from_json(record("submitted").to_json() | damage)

    @pytest.mark.parametrize(
        "missing", ["state", "fingerprint", "model", "epoch", "id", "version", "region", "bfl_conn_id"]
    )
    def test_that_lost_a_field_is_an_error(self, missing: str) -> None:
        value = record("submitted").to_json()
        del value[missing]
        with pytest.raises(BflJournalError):
            Record.from_json(value)

    @settings(deadline=None)
    @given(
        st.dictionaries(
            st.sampled_from([*record("stored").to_json()]),
            st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2),
        )
    )
    def test_with_any_damage_is_a_record_or_a_typed_error(self, damage: dict[str, Any]) -> None:
        try:
            Record.from_json(record("stored").to_json() | damage)
        except BflJournalError as error:
            str(error).encode()

    def test_after_the_submit_knows_all_that_a_wait_needs(self) -> None:
        after = record("refused").submitted(SUBMISSION, now=NOW, timeout=1800)
        assert (after.state, after.id, after.polling_url) == ("submitted", SUBMISSION.id, SUBMISSION.polling_url)
        assert (after.submitted_at, after.deadline, after.queued_since) == (NOW, NOW + 1800, None)
        assert (after.cost, after.input_mp, after.output_mp) == (3.0, 0.0, 1.0)

    def test_keeps_the_suspicion_through_all_states(self) -> None:
        suspected = record("intent", possibly_billed_twice=True)
        for after in (
            suspected.refused(),
            suspected.refused().submitted(SUBMISSION, now=NOW, timeout=1),
            record("stored", possibly_billed_twice=True).reattached_until(NOW),
        ):
            assert after.possibly_billed_twice

    def test_that_is_gone_on_with_says_so(self) -> None:
        after = record("submitted").reattached_until(NOW + 5)
        assert (after.reattached, after.deadline, after.submitted_at) == (True, NOW + 5, NOW)


def expected(state: str, same: bool, cleared: bool, policies: Policies) -> str:
    """The whole table, in the order in which a reader would ask."""
    if policies.force_new and cleared:
        return "submit"
    if state == "refused":
        return "submit"
    if state == "intent":
        return "unresolved" if policies.on_ambiguous_submit == "fail" else "submit, possibly billed twice"
    if same:
        return "re-attach"
    return "stale" if policies.on_stale_state == "fail" else "submit, with a warning"


def outcome(found: Record | None, policies: Policies, *, epoch: int, identity: str) -> str:
    try:
        action = decide(found, fingerprint=identity, epoch=epoch, policies=policies)
    except BflUnresolvedSubmitError:
        return "unresolved"
    except BflStaleStateError:
        return "stale"
    if isinstance(action, Reattach):
        assert action.record is found
        return "re-attach"
    if action.possibly_billed_twice:
        assert action.warning
        return "submit, possibly billed twice"
    return "submit, with a warning" if action.warning else "submit"


class TestDecide:
    @pytest.mark.parametrize("policies", [Policies(), Policies("fail", "fail"), Policies(force_new=True)])
    def test_submits_when_there_is_no_record(self, policies: Policies) -> None:
        assert decide(None, fingerprint="same", epoch=2, policies=policies) == Submit()

    @pytest.mark.parametrize(
        ("state", "same", "cleared", "ambiguous", "stale", "force_new"),
        list(
            product(
                STATES, [True, False], [True, False], get_args(OnAmbiguousSubmit), get_args(OnStaleState), [True, False]
            )
        ),
    )
    def test_follows_the_table(
        self,
        state: str,
        same: bool,
        cleared: bool,
        ambiguous: OnAmbiguousSubmit,
        stale: OnStaleState,
        force_new: bool,
    ) -> None:
        policies = Policies(ambiguous, stale, force_new)
        found = record(state, epoch=2)
        told = outcome(found, policies, epoch=3 if cleared else 2, identity="same" if same else "other")
        assert told == expected(state, same, cleared, policies)

    @pytest.mark.parametrize("state", ["submitted", "stored"])
    def test_never_pays_again_for_the_same_request_in_a_retry(self, state: str) -> None:
        for ambiguous, stale, force_new in product(get_args(OnAmbiguousSubmit), get_args(OnStaleState), [True, False]):
            policies = Policies(ambiguous, stale, force_new)
            assert outcome(record(state), policies, epoch=2, identity="same") == "re-attach"

    def test_remembers_since_when_a_refused_request_queues(self) -> None:
        action = decide(record("refused", possibly_billed_twice=True), fingerprint="x", epoch=2, policies=Policies())
        assert action == Submit(possibly_billed_twice=True, queued_since=NOW - 60)

    @pytest.mark.parametrize(
        ("state", "policies", "says"),
        [
            ("intent", Policies(on_ambiguous_submit="fail"), r"Nothing was submitted now.*dashboard.*force_new"),
            (
                "submitted",
                Policies(on_stale_state="fail"),
                r"gen-1.*billed for another request.*Nothing was submitted.*force_new",
            ),
        ],
    )
    def test_says_what_was_billed_and_what_to_do(self, state: str, policies: Policies, says: str) -> None:
        with pytest.raises(BflError, match=says) as caught:
            decide(record(state), fingerprint="other", epoch=2, policies=policies)
        assert caught.value.model == "flux-2-pro"


REQUESTED: dict[str, Any] = {
    "model": "flux-2-pro",
    "request": {"prompt": "ä", "seed": 1},
    "bfl_conn_id": "bfl_default",
    "region": "eu",
}


class TestTheFingerprint:
    def test_does_not_depend_on_the_order_of_fields(self) -> None:
        other = REQUESTED | {"request": {"seed": 1, "prompt": "ä"}}
        assert fingerprint(**REQUESTED) == fingerprint(**other)

    @pytest.mark.parametrize(
        "change",
        [{"model": "flux-2-max"}, {"bfl_conn_id": "other"}, {"region": "us"},
         {"request": {"prompt": "ä", "seed": 2}},
         {"request": {"prompt": "a", "seed": 1}}, {"request": {"prompt": "ä"}},
         {"request": {"prompt": "ä", "seed": "1"}}, {"request": {"prompt": "ä", "seed": 1, "x": None}}],
        ids=str,
    )  # fmt: skip
    def test_changes_with_whatever_decides_the_picture_or_the_payer(self, change: dict[str, Any]) -> None:
        assert fingerprint(**REQUESTED) != fingerprint(**(REQUESTED | change))

    def test_is_the_same_in_every_version(self) -> None:
        # Were it another one, every record written before an upgrade would be stale, and paid for again.
        assert fingerprint(**REQUESTED) == "36b9413c3a81eb09dd8c000601000d9a781fda5cb418f8d41290fe87a17fe75d"
