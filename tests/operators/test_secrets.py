# SPDX-License-Identifier: Apache-2.0
"""
Neither the key nor a signature is ever written down or sent where it must not be.

The fixture ``bfl`` searches the evidence of every test in these rooms; here is what that search rests on, and the
flows that carry a signed URL into errors.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
import requests

from airflow_provider_bfl.exceptions import BflError, BflResultExpiredError, BflUntrustedUrlError
from airflow_provider_bfl.hooks.bfl import BflHook
from tests.airflow_fixtures import CANARY_KEY, LogRecorder, World


def minted_signatures(bfl: World) -> set[str]:
    """Ask the simulator for the signatures of all finished generations."""
    found = set()
    for task in bfl.simulator.ledger.tasks:
        url = f"{bfl.simulator.addresses[f'poll:{task.region}']}/v1/get_result?id={task.id}"
        sample = requests.get(url, headers={"x-key": CANARY_KEY}, timeout=10).json()["result"]["sample"]
        found.add(re.search(r"sig=([^&]+)", sample)[1])  # type: ignore[index]
    return found


class TestTheSearchItself:
    @pytest.mark.parametrize("place", ["evidence", "file"])
    @pytest.mark.parametrize("kind", ["key", "signature"])
    def test_finds_what_is_there(self, bfl: World, place: str, kind: str) -> None:
        bfl.generation().attempt()
        secret = CANARY_KEY if kind == "key" else f"sig={minted_signatures(bfl).pop()}"
        stray = bfl.root / "stray.json"
        if place == "file":
            stray.write_text(f'{{"leak": "{secret}"}}')
        else:
            bfl.evidence.append({"leak": secret})

        with pytest.raises(AssertionError):
            bfl.check_for_secrets()

        stray.unlink(missing_ok=True)
        bfl.evidence.clear()

    def test_finds_what_is_logged_raw(self, bfl: World, log: LogRecorder) -> None:
        import logging

        logging.getLogger("urllib3.connectionpool").debug('"GET /x?sig=%s HTTP/1.1"', "A" * 40)

        assert log.about("sig=AAAA", logging.DEBUG)
        log._lines.clear()


class TestAWholeFlow:
    def test_leaves_no_trace_of_key_and_signature(self, bfl: World, deferrable: bool, log: LogRecorder) -> None:
        run = bfl.generation(deferrable=deferrable)
        run.attempt()
        operator = run.make()
        hook = operator.hook
        hook.get_credits()
        bfl.evidence += [repr(hook), str(vars(hook)), repr(hook.settings), repr(hook.get_conn()), repr(operator)]

        everything = str([bfl.evidence, log.messages(), [row.path for row in bfl.simulator.ledger.requests]])

        for secret in {CANARY_KEY, *minted_signatures(bfl)}:
            assert secret not in everything

    def test_sends_the_key_to_api_hosts_alone(self, bfl: World, deferrable: bool) -> None:
        bfl.generation(deferrable=deferrable).attempt()

        ledger = bfl.simulator.ledger
        assert {row.role for row in ledger.requests if row.key} == {"submit", "poll"}
        assert all(row.key is None for row in ledger.of_role("delivery"))


class TestErrorsThatKnewASignedUrl:
    TROUBLES: tuple[dict[str, Any], ...] = (
        {"expired": True},
        {"status": 500},
        {"status": 404},
        {"drop": True},
        {"cut_after": 0.5},
        {"content": b"<html>not an image</html>"},
    )

    @pytest.mark.parametrize("trouble", TROUBLES)
    def test_do_not_tell_it(self, bfl: World, deferrable: bool, trouble: dict[str, Any]) -> None:
        bfl.simulator.fault("delivery", times=None, **trouble)

        with pytest.raises(BflError, match="generated and billed"):
            bfl.generation(deferrable=deferrable).attempt()

        assert bfl.posts_received == 1

    def test_expired_for_good_is_told_as_such_and_never_regenerated(self, bfl: World, deferrable: bool) -> None:
        bfl.simulator.fault("delivery", expired=True, times=2)
        run = bfl.generation(deferrable=deferrable)

        with pytest.raises(BflResultExpiredError, match="nothing is generated anew"):
            run.attempt()

        assert run.attempt()["reattached"] is True
        assert bfl.posts_received == 1


class TestHostsThatAreNoneOfBfls:
    def test_a_redirected_submit_is_not_followed(self, bfl: World) -> None:
        bfl.simulator.fault("submit", redirect_to=f"{bfl.simulator.canary_url}/v1/flux-2-pro")

        with pytest.raises(BflError, match="Redirects are never followed with the key"):
            bfl.generation().attempt()

        assert bfl.simulator.ledger.of_role("canary") == ()

    def test_a_redirected_poll_is_not_followed(
        self, bfl: World, deferrable: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("airflow_provider_bfl.api.polling._MAX_BACKOFF_SECONDS", 0.01)
        bfl.simulator.fault("poll", redirect_to=f"{bfl.simulator.canary_url}/x", times=None)

        with pytest.raises(BflError, match="a redirect, which is never followed with the key"):
            bfl.generation(deferrable=deferrable).attempt()

        assert bfl.simulator.ledger.of_role("canary") == ()

    @pytest.mark.parametrize("url", ["{canary}/sample.png", "http://169.254.169.254/latest", "file:///etc/passwd"])
    def test_a_result_elsewhere_is_not_fetched(self, bfl: World, deferrable: bool, url: str) -> None:
        bfl.simulator.fault("task", sample_url=url.format(canary=bfl.simulator.canary_url))
        run = bfl.generation(deferrable=deferrable)

        with pytest.raises(BflUntrustedUrlError, match="may not be downloaded from"):
            run.attempt()

        assert bfl.simulator.ledger.of_role("canary") == ()
        assert run.record["state"] == "submitted"

    def test_a_redirected_download_is_judged_again(self, bfl: World, deferrable: bool) -> None:
        bfl.simulator.fault("delivery", redirect_to=f"{bfl.simulator.canary_url}/sample.png")

        with pytest.raises(BflUntrustedUrlError):
            bfl.generation(deferrable=deferrable).attempt()

        assert bfl.simulator.ledger.of_role("canary") == ()

    def test_a_connections_strange_host_is_not_tried(self, bfl: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(
            "AIRFLOW_CONN_BFL_DEFAULT",
            f'{{"conn_type": "bfl", "password": "{CANARY_KEY}", "host": "http://evil.test"}}',
        )

        with pytest.raises(BflError, match="plain http"):
            bfl.generation().attempt()


class TestPrompts:
    def test_are_not_logged_unless_wanted(self, bfl: World, deferrable: bool, log: LogRecorder) -> None:
        bfl.generation(deferrable=deferrable, prompt="CANARY prompt").attempt()

        assert log.about("CANARY prompt", 0) == []

    def test_are_logged_where_wanted(self, bfl: World, log: LogRecorder, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIRFLOW__BFL__LOG_PROMPTS", "True")

        bfl.generation(prompt="CANARY prompt").attempt()

        assert len(log.about("CANARY prompt", 0)) == 1

    def test_stay_out_of_the_sidecar_where_that_is_wanted(self, bfl: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIRFLOW__BFL__RECORD_PROMPTS", "False")

        result = bfl.generation(prompt="CANARY prompt").attempt()

        assert "CANARY prompt" not in bfl.path_of(result).with_suffix(".jpg.json").read_text()

    def test_that_are_refused_are_not_in_the_message(self, bfl: World) -> None:
        with pytest.raises(BflError) as refused:
            bfl.generation(prompt="CANARY prompt", parameters={"width": 5}).attempt()

        assert "CANARY" not in str(refused.value)


class TestTheLogOfALongWait:
    def test_is_a_few_lines(self, bfl: World, deferrable: bool, log: LogRecorder) -> None:
        bfl.simulator.fault("poll", status_body="Pending", times=100)

        bfl.generation(deferrable=deferrable, poll_interval=0.005).attempt()

        told = [line for line in log.messages(20) if "Generation" in line or "generation" in line]
        assert len(told) <= 6


class TestTheHookOfATask:
    def test_is_made_from_the_connection_in_every_process(self, bfl: World) -> None:
        run = bfl.generation(deferrable=True)
        hooks: list[BflHook] = []
        make = run.make

        def remembering() -> Any:
            operator = make()
            hooks.append(operator.hook)
            return operator

        run.make = remembering
        run.attempt()

        assert len(hooks) == len(set(map(id, hooks))) == 2
