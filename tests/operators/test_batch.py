# SPDX-License-Identifier: Apache-2.0
"""Many requests in one task: what lands, what is a row, and what fails the task."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from airflow_provider_bfl.api.messages import Submission
from airflow_provider_bfl.batch.journal import Manifest
from airflow_provider_bfl.exceptions import (
    BflAuthenticationError,
    BflBatchFailedError,
    BflBatchIncompleteError,
    BflBudgetError,
    BflConfigError,
    BflInsufficientCreditsError,
    BflJournalError,
    BflRateLimitedError,
    BflServiceError,
    BflStorageError,
    BflValidationError,
)
from airflow_provider_bfl.transport.aio import AsyncBflClient
from tests.airflow_fixtures import PNG, LogRecorder, World
from tests.batch.runs import COST, batch, hasten, pictures, prompts, read_lines, rows, statuses


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    hasten(monkeypatch)


class TestABatchOfPrompts:
    def test_lands_every_picture_and_pays_once_for_each(self, bfl: World) -> None:
        result = batch(bfl, prompts(40)).attempt()

        assert (result["total"], result["counts"]["stored"], result["cost"]) == (40, 40, 40 * COST)
        assert len(pictures(bfl)) == bfl.posts_received == bfl.posts == 40
        assert bfl.simulator.ledger.max_active <= 24

    def test_has_a_row_for_each_item_in_order(self, bfl: World) -> None:
        result = batch(bfl, prompts(30)).attempt()

        found = rows(bfl)
        assert [row["position"] for row in found] == list(range(30))
        assert urlsplit(result["manifest_uri"]).path == str(bfl.root / "landed" / "manifest.jsonl")
        for row in found:
            content = Path(urlsplit(row["uri"]).path).read_bytes()
            assert (row["sha256"], row["size"]) == (hashlib.sha256(content).hexdigest(), len(content))
            assert json.loads(Path(urlsplit(row["sidecar_uri"]).path).read_text())["id"] == row["id"]
            assert row["cost"] == COST
        tasks = {task.id: task for task in bfl.simulator.ledger.tasks}
        assert all(tasks[row["id"]].request["prompt"] == f"fox number {row['position']} in the snow" for row in found)
        assert all(tasks[row["id"]].seed == row["seed"] for row in found)

    def test_gives_xcom_a_summary_and_no_more(self, bfl: World) -> None:
        run = batch(bfl, prompts(30))
        result = run.attempt()

        assert set(result) == {
            "manifest_uri",
            "total",
            "counts",
            "cost",
            "reattached",
            "possibly_billed_twice",
        }
        assert len(json.dumps(run.xcom)) < 64 * 1024

    def test_of_nothing_is_nothing(self, bfl: World) -> None:
        result = batch(bfl, []).attempt()

        assert (result["total"], result["cost"]) == (0, 0)
        assert rows(bfl) == []

    def test_keeps_no_more_in_flight_than_it_is_told(self, bfl: World) -> None:
        batch(bfl, prompts(12), max_active=3).attempt()

        assert bfl.simulator.ledger.max_active == 3

    def test_keeps_no_more_in_flight_than_bfl_allows_of_the_model(self, bfl: World) -> None:
        requests = [{"prompt": prompt} for prompt in prompts(20)]
        batch(bfl, requests, model="flux-kontext-max", parameters={}).attempt()

        assert bfl.simulator.ledger.max_active <= 6
        # Without a single refusal: it never asked for more.
        assert bfl.posts_received == bfl.posts == 20

    def test_fills_the_slots_that_one_model_leaves_with_another(self, bfl: World) -> None:
        slow = [{"prompt": prompt, "model": "flux-kontext-max", "parameters": {}} for prompt in prompts(12)]
        quick = [{"prompt": f"a quick {prompt}"} for prompt in prompts(24)]
        batch(bfl, slow + quick, parameters={}).attempt()

        assert bfl.simulator.ledger.max_active_by_model["flux-kontext-max"] <= 6
        assert bfl.simulator.ledger.max_active > 6

    def test_says_how_far_it_is_without_a_line_for_each_item(self, bfl: World, log: LogRecorder) -> None:
        batch(bfl, prompts(60)).attempt()

        said = log.messages(logging.INFO)
        assert any("A batch of 60 items" in line for line in said)
        assert any("60 items: 60 stored" in line for line in said)
        assert len(said) <= 12
        assert not any("fox number" in line for line in log.messages())

    def test_has_a_contact_sheet(self, bfl: World) -> None:
        run = batch(bfl, prompts(5))
        run.attempt()

        preview = run.xcom.get("bfl_preview")
        if preview is None:
            pytest.skip("this Airflow has no gallery")
        assert (preview["kind"], preview["total"], len(preview["items"])) == ("batch", 5, 5)


class TestNames:
    def test_are_the_objects_and_the_manifests(self, bfl: World) -> None:
        requests = [{"name": "animals/fox", "prompt": "a fox"}, {"name": "owl.jpg", "prompt": "an owl"}]
        batch(bfl, requests).attempt()

        assert [row["item"] for row in rows(bfl)] == ["animals/fox", "owl.jpg"]
        assert [path.relative_to(bfl.root / "landed").as_posix() for path in pictures(bfl)] == [
            "animals/fox.jpg",
            "owl.jpg",
        ]

    def test_must_differ(self, bfl: World) -> None:
        with pytest.raises(BflValidationError, match=r"item 1 \(fox\).*item 0"):
            batch(bfl, [{"name": "fox", "prompt": "a fox"}, {"name": "fox", "prompt": "a red fox"}]).attempt()
        assert bfl.posts_received == 0

    def test_that_contradict_the_format_are_refused(self, bfl: World) -> None:
        with pytest.raises(BflValidationError, match=r"item 0 \(fox\.png\)"):
            batch(bfl, [{"name": "fox.png", "prompt": "a fox"}]).attempt()
        assert bfl.posts_received == 0

    def test_never_lead_out_of_the_destination(self, bfl: World) -> None:
        batch(bfl, [{"name": "../../fox", "prompt": "a fox"}]).attempt()

        (picture,) = pictures(bfl)
        assert picture.is_relative_to(bfl.root / "landed")


class TestRequestsThatAreWrong:
    def test_are_told_all_at_once_before_anything_is_paid(self, bfl: World) -> None:
        requests: list[Any] = [*prompts(30), {"prompt": "a fox", "parameters": {"aspect_ratio": "16:9"}}, " "]
        with pytest.raises(BflValidationError, match=r"2 of the requests are wrong.*item 30.*aspect_ratio.*item 31"):
            batch(bfl, requests).attempt()
        assert bfl.posts_received == 0
        assert not (bfl.root / "landed").exists()

    def test_are_sent_where_the_user_insists(self, bfl: World) -> None:
        requests = [{"prompt": "a fox", "parameters": {"aspect_ratio": "16:9"}}]
        batch(bfl, requests, validation="warn").attempt()

        assert bfl.posts == 1

    @pytest.mark.parametrize("requests", ["a red fox", "file:///tmp/foxes.txt", "", "['a', 'b']"])
    def test_a_bare_string_is_no_list(self, bfl: World, requests: str) -> None:
        with pytest.raises(BflConfigError, match="give a list of prompts"):
            batch(bfl, requests).attempt()
        assert bfl.posts_received == 0

    @pytest.mark.parametrize("requests", [None, 7, {"prompt": "a fox"}])
    def test_neither_is_anything_else(self, bfl: World, requests: Any) -> None:
        with pytest.raises(BflConfigError, match="give a list of prompts"):
            batch(bfl, requests).attempt()

    def test_a_webhook_cannot_be_polled_for(self, bfl: World) -> None:
        requests = [{"prompt": "a fox", "parameters": {"webhook_url": "https://example.com/hook"}}]
        with pytest.raises(BflValidationError, match="webhook_url cannot be used in a batch"):
            batch(bfl, requests).attempt()

    def test_the_destination_is_a_directory(self, bfl: World) -> None:
        with pytest.raises(BflConfigError, match="does not end with a slash"):
            batch(bfl, prompts(1), destination=bfl.destination.rstrip("/")).attempt()
        assert bfl.posts_received == 0

    def test_a_medium_that_is_not_there_costs_nothing_and_is_a_row(
        self, bfl: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AIRFLOW__BFL__ALLOW_LOCAL_FILES", str(bfl.root))
        (bfl.root / "chair.png").write_bytes(PNG)
        requests = [
            {"prompt": "red", "parameters": {"input_image": f"file://{bfl.root}/{name}.png"}}
            for name in ("chair", "table")
        ]
        with pytest.raises(BflBatchFailedError, match="1 rejected"):
            batch(bfl, requests).attempt()

        assert [row["status"] for row in rows(bfl)] == ["stored", "rejected"]
        assert "there is no object" in rows(bfl)[1]["error"]
        assert bfl.posts_received == 1


class TestAFile:
    def test_of_comma_separated_values_is_read(self, bfl: World) -> None:
        path = bfl.root / "catalogue.csv"
        path.write_text(
            "\ufeffname,prompt,width,output_format,parameters\r\n"
            'fox,"a red fox, ""running""\nin snow",128,png,\r\n'
            'owl,an owl,,,"{""seed"": 7, ""width"": 256}"\r\n'
        )
        batch(bfl, f"file://{path}", parameters={"width": 64, "height": 64}).attempt()

        fox, owl = sorted(bfl.simulator.ledger.tasks, key=lambda task: str(task.request["prompt"]), reverse=False)
        assert fox.request["prompt"] == 'a red fox, "running"\nin snow'
        assert (fox.request["width"], fox.request["height"], fox.request["output_format"]) == (128, 64, "png")
        assert (owl.request["width"], owl.seed) == (256, 7)
        assert {row["item"] for row in rows(bfl)} == {"fox", "owl"}

    @pytest.mark.parametrize("suffix", ["jsonl", "ndjson"])
    def test_of_json_lines_is_read(self, bfl: World, suffix: str) -> None:
        path = bfl.root / f"requests.{suffix}"
        lines = ['{"name": "fox", "prompt": "a fox", "parameters": {"seed": 5}}', "", '"an owl"']
        path.write_text("\n".join(lines))
        batch(bfl, f"file://{path}").attempt()

        assert [row["item"] for row in rows(bfl)] == ["fox", "1"]
        assert {task.request["prompt"] for task in bfl.simulator.ledger.tasks} == {"a fox", "an owl"}

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("a.csv", "prompt\na,b\n", "line 2: not as many cells"),
            ("a.csv", "prompt,prompt\na,b\n", "the name of another"),
            ("a.csv", "prompt,parameters\na,{\n", "line 2: parameters is not JSON"),
            ("a.csv", 'prompt\n"a\n', "not CSV"),
            ("a.jsonl", '"a fox"\n{"prompt": \n', "line 2: the line is not JSON"),
            ("a.jsonl", '{"promt": "a fox"}\n', "an item has no promt"),
            ("a.jsonl", '{"prompt": 5}\n', "prompt is not text"),
            ("a.jsonl", '{"prompt": "x", "parameters": []}\n', "parameters is no object"),
        ],
    )
    def test_that_is_damaged_is_refused_with_its_line(self, bfl: World, name: str, text: str, message: str) -> None:
        path = bfl.root / name
        path.write_text(text)
        with pytest.raises(BflValidationError, match=message):
            batch(bfl, f"file://{path}").attempt()
        assert bfl.posts_received == 0

    def test_that_is_not_there_is_said_so(self, bfl: World) -> None:
        with pytest.raises(BflConfigError, match="There is no file"):
            batch(bfl, f"file://{bfl.root}/none.csv").attempt()


class TestItemsThatEndWithoutAResult:
    def _spoil(self, bfl: World, prompt: int, status: str) -> None:
        bfl.simulator.fault("task", prompt=f"number {prompt} ", final_status=status)

    def test_are_rows_and_the_others_land(self, bfl: World) -> None:
        for number, status in ((1, "Request Moderated"), (2, "Content Moderated"), (3, "Error")):
            self._spoil(bfl, number, status)
        result = batch(bfl, prompts(10), fail_on="none").attempt()

        assert {name: count for name, count in result["counts"].items() if count} == {
            "stored": 7,
            "moderated": 2,
            "failed": 1,
        }
        found = rows(bfl)
        assert [found[number]["status"] for number in (1, 2, 3)] == ["moderated", "moderated", "failed"]
        assert found[1]["error_type"] == "BflRequestModeratedError"
        assert found[1]["uri"] is None
        # BFL gives moderated ones back; of failed ones it does not say.
        assert result["cost"] == 8 * COST
        assert [found[number]["spent"] for number in (1, 2, 3)] == [0.0, 0.0, COST]

    @pytest.mark.parametrize(
        ("fail_on", "fails"), [("any", True), ("all", False), ("none", False), (0.1, True), (0.2, False), (0.5, False)]
    )
    def test_fail_the_task_as_asked(self, bfl: World, fail_on: Any, fails: bool) -> None:
        for number in (1, 2):
            self._spoil(bfl, number, "Content Moderated")
        run = batch(bfl, prompts(10), fail_on=fail_on)
        if not fails:
            assert run.attempt()["counts"]["moderated"] == 2
            return
        with pytest.raises(BflBatchFailedError, match="8 stored, 2 moderated"):
            run.attempt()
        assert statuses(bfl)["stored"] == 8

    def test_all_of_them_fail_a_task_that_fails_on_all(self, bfl: World) -> None:
        bfl.simulator.fault("task", times=None, final_status="Content Moderated")
        with pytest.raises(BflBatchFailedError):
            batch(bfl, prompts(3), fail_on="all").attempt()

    def test_moderated_ones_need_not_count(self, bfl: World) -> None:
        self._spoil(bfl, 1, "Content Moderated")
        assert batch(bfl, prompts(3), on_moderated="skip").attempt()["counts"]["moderated"] == 1

    def test_one_moderated_may_be_too_many(self, bfl: World) -> None:
        self._spoil(bfl, 1, "Content Moderated")
        with pytest.raises(BflBatchFailedError, match="on_moderated='fail'"):
            batch(bfl, prompts(3), fail_on="none", on_moderated="fail").attempt()

    def test_a_request_that_bfl_refuses_is_one(self, bfl: World) -> None:
        bfl.simulator.fault("submit", status=422, body={"detail": "no such seed"}, skip=2)
        with pytest.raises(BflBatchFailedError, match="1 rejected"):
            batch(bfl, prompts(5)).attempt()
        assert statuses(bfl) == {"stored": 4, "rejected": 1}
        assert bfl.posts == 4

    def test_moderated_ones_are_not_sent_again_by_a_retry_and_failed_ones_are(self, bfl: World) -> None:
        self._spoil(bfl, 1, "Content Moderated")
        self._spoil(bfl, 2, "Error")
        run = batch(bfl, prompts(5))
        with pytest.raises(BflBatchIncompleteError):
            run.attempt()
        assert bfl.posts_received == 5

        with pytest.raises(BflBatchFailedError, match="4 stored, 1 moderated"):
            run.attempt()

        assert bfl.posts_received == 6
        assert rows(bfl)[2]["status"] == "stored"
        assert rows(bfl)[2]["spent"] == 2 * COST


class TestAFullAccount:
    def test_is_flow_control_and_no_failure(self, bfl: World) -> None:
        bfl.simulator.settings(overall_limit=5)
        result = batch(bfl, prompts(30)).attempt()

        assert result["counts"]["stored"] == 30
        ledger = bfl.simulator.ledger
        assert (ledger.posts, ledger.max_active) == (30, 5)
        # The window learns: far fewer refusals than if all slots asked all the time.
        assert ledger.posts_received < 30 + 24 + 30

    def test_is_asked_for_a_slot_now_and_then_only(self, bfl: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("airflow_provider_bfl.batch.window._FIRST_PAUSE_SECONDS", 0.5)
        bfl.simulator.settings(overall_limit=0)
        with pytest.raises(BflRateLimitedError):
            batch(bfl, prompts(40), max_queue_wait=1.0).attempt()

        asked = [row.time for row in bfl.simulator.ledger.of_role("submit")]
        # The slots are tried at once; from then on one POST asks for all.
        assert len(asked) <= 24 + 10

    def test_is_waited_for_as_long_as_bfl_asks(self, bfl: World) -> None:
        bfl.simulator.fault("submit", status=429, headers={"Retry-After": "1"}, body={"detail": "busy"})
        batch(bfl, prompts(2), max_active=1).attempt()

        first, second, *_ = bfl.simulator.ledger.of_role("submit")
        assert (first.status, second.status) == (429, 200)
        assert second.time - first.time >= 1.0

    def test_for_too_long_ends_the_attempt(self, bfl: World) -> None:
        bfl.simulator.settings(overall_limit=0)
        with pytest.raises(BflRateLimitedError, match=r"max_queue_wait.*4 unsubmitted"):
            batch(bfl, prompts(4), max_queue_wait=0.2).attempt()
        assert bfl.posts == 0
        bfl.simulator.settings(overall_limit=24)


class TestAnAccountWithoutCredits:
    def test_stops_submitting_and_collects_what_is_in_flight(self, bfl: World) -> None:
        bfl.simulator.set_credits(7 * COST)
        run = batch(bfl, prompts(20), max_active=4)
        with pytest.raises(BflInsufficientCreditsError, match=r"7 stored, 13 unsubmitted"):
            run.attempt()
        received = bfl.posts_received
        assert statuses(bfl)["stored"] == len(pictures(bfl)) == 7
        assert received <= 7 + 4

        bfl.simulator.set_credits(1000)
        assert run.attempt()["counts"]["stored"] == 20
        assert bfl.posts == 20

    def test_or_access_is_the_same(self, bfl: World) -> None:
        bfl.simulator.fault("submit", times=None, status=403, body={"detail": "Not authenticated"})
        with pytest.raises(BflAuthenticationError, match="8 unsubmitted"):
            batch(bfl, prompts(8), max_active=2).attempt()
        assert bfl.posts_received <= 2


class TestMaxCost:
    def test_stops_before_the_post_that_could_pass_it(self, bfl: World) -> None:
        run = batch(bfl, prompts(12), max_cost=10.0)
        with pytest.raises(BflBudgetError, match=r"9 credits are spent.*3 stored, 9 unsubmitted"):
            run.attempt()

        assert bfl.simulator.ledger.spent == 9.0
        assert bfl.posts_received == 3

    def test_holds_over_all_attempts(self, bfl: World) -> None:
        run = batch(bfl, prompts(12), max_cost=10.0)
        for _ in range(3):
            with pytest.raises(BflBudgetError):
                run.attempt()
        assert bfl.simulator.ledger.spent == 9.0

    def test_may_be_raised(self, bfl: World) -> None:
        with pytest.raises(BflBudgetError):
            batch(bfl, prompts(5), max_cost=7.0).attempt()

        assert batch(bfl, prompts(5), max_cost=15.0).attempt()["cost"] == 15.0
        assert bfl.simulator.ledger.spent == 15.0

    def test_learns_the_first_price_with_one_request(self, bfl: World) -> None:
        bfl.simulator.fault("submit", accept=True, delay_seconds=0.4)
        with pytest.raises(BflBudgetError):
            batch(bfl, prompts(12), max_cost=4.0).attempt()
        assert bfl.posts_received == 1

    def test_counts_what_was_given_back_for_moderation_as_free(self, bfl: World) -> None:
        bfl.simulator.fault("task", final_status="Content Moderated", prompt="number 0 ")
        run = batch(bfl, prompts(3), max_cost=6.0, fail_on="none")

        assert run.attempt()["counts"]["stored"] == 2
        assert bfl.simulator.ledger.spent == 6.0

    def test_counts_a_lost_answer_in_full(self, bfl: World) -> None:
        bfl.simulator.fault("submit", accept=True, drop=True, skip=1)
        run = batch(bfl, prompts(6), max_cost=12.0, max_active=1)
        with pytest.raises(BflBudgetError):
            run.attempt()
        for _ in range(2):
            with pytest.raises(BflBudgetError):
                run.attempt()
        assert bfl.simulator.ledger.spent <= 12.0
        assert bfl.posts == 4


class TestALostAnswer:
    def test_is_a_row_and_the_retry_resolves_it(self, bfl: World) -> None:
        bfl.simulator.fault("submit", accept=True, drop=True, skip=2)
        run = batch(bfl, prompts(6))
        with pytest.raises(BflBatchIncompleteError, match="1 ambiguous"):
            run.attempt()
        assert (bfl.posts, statuses(bfl)["ambiguous"]) == (6, 1)

        result = run.attempt()

        assert (bfl.posts, result["possibly_billed_twice"]) == (7, 1)
        (twice,) = [row for row in rows(bfl) if row["possibly_billed_twice"]]
        assert (twice["status"], twice["spent"]) == ("stored", 2 * COST)
        assert result["cost"] == 7 * COST

    def test_is_left_to_the_user_who_wants_that(self, bfl: World) -> None:
        bfl.simulator.fault("submit", accept=True, drop=True, skip=2)
        run = batch(bfl, prompts(6), on_ambiguous_submit="fail")
        with pytest.raises(BflBatchIncompleteError):
            run.attempt()
        for _ in range(2):
            with pytest.raises(BflBatchFailedError, match="1 doubtful"):
                run.attempt()
        assert bfl.posts_received == 6

    def test_several_in_a_row_stop_the_batch(self, bfl: World) -> None:
        bfl.simulator.fault("submit", times=None, accept=True, drop=True)
        with pytest.raises(Exception, match="answer was lost"):
            batch(bfl, prompts(40), max_active=2).attempt()
        assert bfl.posts <= 7


class TestAServiceInTrouble:
    def test_refusals_are_repeated(self, bfl: World) -> None:
        bfl.simulator.fault("submit", times=2, status=503, body={"detail": "maintenance"})
        assert batch(bfl, prompts(4), max_active=1).attempt()["counts"]["stored"] == 4
        assert bfl.posts == 4

    def test_that_goes_on_stops_the_batch(self, bfl: World) -> None:
        bfl.simulator.fault("submit", times=None, status=500)
        with pytest.raises(BflServiceError, match="40 unsubmitted"):
            batch(bfl, prompts(40), max_active=2).attempt()
        assert bfl.posts_received <= 7

    def test_bad_polls_are_ridden_out(self, bfl: World) -> None:
        bfl.simulator.fault("poll", times=4, status=502)
        assert batch(bfl, prompts(4)).attempt()["counts"]["stored"] == 4

    def test_a_generation_that_takes_too_long_is_reattached_to(self, bfl: World) -> None:
        bfl.simulator.fault("task", prompt="number 1 ", stuck=True)
        run = batch(bfl, prompts(3), timeout=0.5)
        with pytest.raises(BflBatchIncompleteError, match="1 in flight"):
            run.attempt()
        (stuck,) = [row for row in rows(bfl) if row["status"] == "submitted"]
        assert stuck["error_type"] == "BflTimeoutError"
        bfl.simulator.finish(stuck["id"])

        result = run.attempt()

        assert (result["counts"]["stored"], result["reattached"], bfl.posts_received) == (3, 1, 3)


class TestAStoreInTrouble:
    def test_costs_no_second_generation(self, bfl: World, monkeypatch: pytest.MonkeyPatch) -> None:
        from airflow_provider_bfl.landing.files import FileStore
        from airflow_provider_bfl.landing.store import StoreFaultError

        really_put = FileStore.put

        def put(self: Any, key: str, contents: Any, *, create_only: bool) -> None:
            if "/000002-" in key:
                raise StoreFaultError("the disk is full", permanent=True)
            really_put(self, key, contents, create_only=create_only)

        run = batch(bfl, prompts(5))
        with monkeypatch.context() as patch:
            patch.setattr(FileStore, "put", put)
            with pytest.raises(BflBatchIncompleteError, match="1 unstored"):
                run.attempt()
        assert rows(bfl)[2]["error_type"] == "BflStorageError"

        assert run.attempt()["counts"]["stored"] == 5
        assert bfl.posts_received == 5

    def test_that_goes_on_stops_the_batch(self, bfl: World, monkeypatch: pytest.MonkeyPatch) -> None:
        from airflow_provider_bfl.landing.files import FileStore
        from airflow_provider_bfl.landing.store import StoreFaultError

        really_put = FileStore.put

        def put(self: Any, key: str, contents: Any, *, create_only: bool) -> None:
            if "manifest" not in key:
                raise StoreFaultError("the disk is full", permanent=True)
            really_put(self, key, contents, create_only=create_only)

        run = batch(bfl, prompts(60), max_active=2)
        with monkeypatch.context() as patch:
            patch.setattr(FileStore, "put", put)
            with pytest.raises(BflStorageError, match="unsubmitted"):
                run.attempt()
        paid = bfl.posts
        assert paid <= 20

        assert run.attempt()["counts"]["stored"] == 60
        assert bfl.posts == 60


class TestTheJournal:
    @pytest.fixture
    def killed_after_its_posts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing that the first attempt learns after an intent reaches the journal."""
        real_write, real_close = Manifest.write, Manifest.close

        def write(manifest: Manifest, lines: bytes, *, before_posts: bool) -> int:
            if manifest.signature.attempt == 1:
                lines = b"".join(line for line in lines.splitlines(keepends=True) if b'"intent"' in line)
            return real_write(manifest, lines, before_posts=before_posts)

        def close(manifest: Manifest) -> None:
            if manifest.signature.attempt == 1:
                raise SystemExit(137)
            real_close(manifest)

        monkeypatch.setattr(Manifest, "write", write)
        monkeypatch.setattr(Manifest, "close", close)

    def test_has_the_intent_of_every_post_before_it_is_sent(self, bfl: World, monkeypatch: pytest.MonkeyPatch) -> None:
        real_write, real_submit = Manifest.write, AsyncBflClient.submit
        early: list[str] = []

        def slow_write(manifest: Manifest, lines: bytes, *, before_posts: bool) -> int:
            time.sleep(0.05)
            return real_write(manifest, lines, before_posts=before_posts)

        async def submit(client: AsyncBflClient, model: str, body: Mapping[str, Any]) -> Submission:
            files = (bfl.root / "landed" / "manifest.jsonl.d").iterdir()
            written = [json.loads(line) for path in files for line in path.read_text().splitlines()]
            position = int(body["prompt"].split()[2])
            if not any(row.get("position") == position and row["status"] == "intent" for row in written):
                early.append(body["prompt"])
            return await real_submit(client, model, body)

        monkeypatch.setattr(Manifest, "write", slow_write)
        monkeypatch.setattr(AsyncBflClient, "submit", submit)
        batch(bfl, prompts(12), max_active=4).attempt()

        assert (early, bfl.posts_received) == ([], 12)

    def test_that_ends_with_intents_leaves_doubts_that_the_next_attempt_marks(
        self, bfl: World, killed_after_its_posts: None
    ) -> None:
        run = batch(bfl, prompts(4))
        with pytest.raises(SystemExit):
            run.attempt()

        result = run.attempt()

        assert (bfl.posts, result["possibly_billed_twice"], result["cost"]) == (8, 4, 8 * COST)
        assert statuses(bfl) == {"stored": 4}

    def test_that_ends_with_intents_leaves_doubts_to_the_user_who_wants_that(
        self, bfl: World, killed_after_its_posts: None
    ) -> None:
        run = batch(bfl, prompts(4), on_ambiguous_submit="fail")
        with pytest.raises(SystemExit):
            run.attempt()
        with pytest.raises(BflBatchFailedError, match="4 doubtful"):
            run.attempt()
        assert bfl.posts_received == 4

    def test_that_has_an_intent_lets_nothing_be_sent_once_the_batch_has_stopped(
        self, bfl: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = batch(bfl, prompts(12))
        real_write = Manifest.write

        def write(manifest: Manifest, lines: bytes, *, before_posts: bool) -> int:
            number = real_write(manifest, lines, before_posts=before_posts)
            run.operators[-1]._running._engine.stop(BflInsufficientCreditsError("Meanwhile the credits ran out."))
            return number

        monkeypatch.setattr(Manifest, "write", write)
        with pytest.raises(BflInsufficientCreditsError, match="12 unsubmitted"):
            run.attempt()
        assert bfl.posts_received == 0

    def test_that_cannot_be_written_lets_nothing_be_sent(self, bfl: World, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: Any, **__: Any) -> None:
            raise BflJournalError("The store is away.")

        monkeypatch.setattr(Manifest, "write", broken)
        with pytest.raises(BflJournalError, match="The store is away"):
            batch(bfl, prompts(12)).attempt()
        assert bfl.posts_received == 0


class TestAnotherAttempt:
    def test_after_success_pays_and_lands_nothing(self, bfl: World) -> None:
        run = batch(bfl, prompts(10))
        first = run.attempt()
        written = [path.stat().st_mtime_ns for path in pictures(bfl)]
        downloads = len(bfl.simulator.ledger.of_role("delivery"))

        run.clear()
        again = run.attempt()

        assert again == first
        assert bfl.posts_received == 10
        assert [path.stat().st_mtime_ns for path in pictures(bfl)] == written
        assert len(bfl.simulator.ledger.of_role("delivery")) == downloads

    def test_lands_again_what_somebody_removed(self, bfl: World) -> None:
        run = batch(bfl, prompts(3))
        run.attempt()
        pictures(bfl)[1].unlink()

        run.clear()
        assert run.attempt()["counts"]["stored"] == 3
        assert (len(pictures(bfl)), bfl.posts_received) == (3, 3)

    def test_submits_items_that_are_new(self, bfl: World) -> None:
        batch(bfl, prompts(3)).attempt()

        assert batch(bfl, prompts(5)).attempt()["counts"]["stored"] == 5
        assert bfl.posts_received == 5

    def test_takes_a_changed_request_for_a_new_one_and_says_so(self, bfl: World, log: LogRecorder) -> None:
        requests = [{"name": name, "prompt": f"a {name}"} for name in ("fox", "owl")]
        batch(bfl, requests).attempt()
        requests[1]["prompt"] = "a snowy owl"

        result = batch(bfl, requests).attempt()

        assert bfl.posts_received == 3
        (warning,) = log.about("paid for with another request")
        assert "1 items" in warning
        assert "owl" in warning
        owl = rows(bfl)[1]
        assert (owl["cost"], owl["spent"], result["cost"]) == (COST, 2 * COST, 3 * COST)
        newest = bfl.simulator.ledger.tasks[-1]
        assert (owl["id"], newest.request["prompt"]) == (newest.id, "a snowy owl")

    def test_of_another_run_never_touches_the_manifest(self, bfl: World) -> None:
        batch(bfl, prompts(3)).attempt()
        before = (bfl.root / "landed" / "manifest.jsonl").read_bytes()

        other = batch(bfl, prompts(3))
        other._ti = {"run_id": "another_run"}
        with pytest.raises(BflConfigError, match=r"another batch.*run_id"):
            other.attempt()

        assert (bfl.root / "landed" / "manifest.jsonl").read_bytes() == before
        assert bfl.posts_received == 3

    def test_of_another_run_may_take_over_what_is_stored(self, bfl: World) -> None:
        batch(bfl, prompts(4)).attempt()
        pictures(bfl)[3].unlink()
        other = batch(bfl, [*prompts(3), "something else", "and more"], if_exists="skip")
        other._ti = {"run_id": "another_run"}

        result = other.attempt()

        assert (result["counts"]["stored"], result["cost"], bfl.posts_received) == (5, 2 * COST, 6)
        found = read_lines(bfl.root / "landed" / "manifest.jsonl")
        owners = [(row["run_id"], row["item"]) for row in found]
        # What was not taken over is still there: nobody's rows are lost.
        assert owners[0] == ("manual__2026-01-01T00:00:00+00:00", "3")
        assert owners[1:] == [("another_run", str(number)) for number in range(5)]
        assert len({row["uri"] for row in found}) == 6


class TestObjectsInTheWay:
    def test_are_replaced_by_default(self, bfl: World) -> None:
        (bfl.root / "landed").mkdir()
        (bfl.root / "landed" / "fox.jpg").write_bytes(b"something else")
        batch(bfl, [{"name": "fox", "prompt": "a fox"}]).attempt()

        assert (bfl.root / "landed" / "fox.jpg").read_bytes() != b"something else"

    def test_are_errors_before_anything_is_paid_where_asked(self, bfl: World) -> None:
        (bfl.root / "landed").mkdir()
        (bfl.root / "landed" / "fox.jpg").write_bytes(b"something else")
        requests = [{"name": name, "prompt": f"a {name}"} for name in ("fox", "owl")]
        with pytest.raises(BflBatchFailedError, match="1 stored, 1 rejected"):
            batch(bfl, requests, if_exists="error").attempt()

        assert rows(bfl)[0]["error_type"] == "BflObjectExistsError"
        assert bfl.posts_received == 1
        assert (bfl.root / "landed" / "fox.jpg").read_bytes() == b"something else"

    def test_are_kept_and_never_taken_for_another_requests_result(self, bfl: World) -> None:
        (bfl.root / "landed").mkdir()
        (bfl.root / "landed" / "fox.jpg").write_bytes(b"something else")
        batch(bfl, [{"name": "fox", "prompt": "a fox"}], if_exists="skip").attempt()

        (row,) = rows(bfl)
        assert (bfl.root / "landed" / "fox.jpg").read_bytes() == b"something else"
        assert Path(urlsplit(row["uri"]).path).name == f"fox-{row['fingerprint'][:8]}.jpg"


class TestArguments:
    @pytest.mark.parametrize(
        "arguments",
        [
            {"fail_on": "some"},
            {"fail_on": 1.5},
            {"fail_on": True},
            {"max_active": 0},
            {"max_active": 2.5},
            {"max_cost": 0},
            {"max_cost": "10"},
            {"on_moderated": "ignore"},
            {"if_exists": "keep"},
            {"on_ambiguous_submit": "retry"},
        ],
    )
    def test_that_cannot_be_used_are_refused_when_the_dag_is_parsed(self, arguments: dict[str, Any]) -> None:
        from airflow_provider_bfl.operators.batch import BflBatchOperator

        with pytest.raises(BflConfigError, match=next(iter(arguments))):
            BflBatchOperator(task_id="b", requests=["a fox"], destination="file:///tmp/x/", **arguments)
