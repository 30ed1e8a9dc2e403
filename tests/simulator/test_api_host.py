# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest

from airflow_provider_bfl.simulator import Simulator

if TYPE_CHECKING:
    from tests.simulator.conftest import Bfl


class TestRefusalsComeInOrder:
    """Path and verb, then the key, then the body, then credits, then active tasks."""

    def test_an_unknown_path_is_404_whatever_the_key(self, bfl: Bfl) -> None:
        for path in ("/v1/flux-9", "/v1/flux-kontext", "/v2/flux-2-pro", "/"):
            answer = bfl.request("POST", bfl.simulator.url + path, json={})
            assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"})

    @pytest.mark.parametrize(
        ("verb", "path"), [("GET", "/v1/flux-2-pro"), ("POST", "/v1/credits"), ("POST", "/v1/get_result")]
    )
    def test_a_wrong_verb_is_405(self, bfl: Bfl, verb: str, path: str) -> None:
        answer = bfl.request(verb, bfl.simulator.url + path)
        assert (answer.status_code, answer.json()) == (405, {"detail": "Method Not Allowed"})
        assert answer.headers["Allow"] != verb

    @pytest.mark.parametrize(
        ("headers", "status", "detail"),
        [
            ({}, 403, "Not authenticated"),
            ({"Authorization": "Bearer bfl_test_key"}, 403, "Not authenticated"),
            ({"x-key": "sk-not-bfl"}, 422, "Invalid API key format"),
        ],
    )
    def test_the_key_is_checked_before_the_body(
        self, bfl: Bfl, headers: dict[str, str], status: int, detail: str
    ) -> None:
        for path, verb in (("/v1/flux-2-pro", "POST"), ("/v1/credits", "GET")):
            answer = bfl.request(verb, bfl.simulator.url + path, headers=headers, data=b"not json")
            assert (answer.status_code, answer.json()) == (status, {"detail": detail})

    def test_with_a_list_of_keys_others_are_invalid(self, bfl: Bfl) -> None:
        with Simulator(keys=["bfl_mine"]) as simulator:
            answers = [replace(bfl, simulator=simulator, key=key).submit() for key in ("bfl_mine", "bfl_other")]
        assert [answer.status_code for answer in answers] == [200, 403]
        assert answers[1].json() == {"detail": "Not authenticated - Invalid Authentication"}

    def test_a_bad_body_is_refused_before_credits_are_looked_at(self, bfl: Bfl) -> None:
        bfl.simulator.set_credits(0)
        assert bfl.submit(width=1).status_code == 422
        assert bfl.submit().status_code == 402

    def test_credits_are_looked_at_before_active_tasks(self, bfl: Bfl) -> None:
        bfl.simulator.settings(overall_limit=0)
        assert bfl.submit().status_code == 429
        bfl.simulator.set_credits(0)
        assert bfl.submit().status_code == 402

    def test_nothing_refused_is_a_task(self, bfl: Bfl) -> None:
        bfl.submit(width=1)
        bfl.simulator.set_credits(0)
        bfl.submit()
        ledger = bfl.simulator.ledger
        assert (ledger.posts, ledger.posts_received, ledger.spent) == (0, 2, 0)


class TestBadBodies:
    def test_a_bad_field_is_told_as_fastapi_tells_it(self, bfl: Bfl) -> None:
        answer = bfl.submit(width=1)
        assert answer.status_code == 422
        assert answer.json()["detail"] == [
            {
                "type": "greater_than_equal",
                "loc": ["body", "width"],
                "msg": "Input should be greater than or equal to 64",
                "input": 1,
                "ctx": {"ge": 64},
            }
        ]

    @pytest.mark.parametrize(
        ("raw", "kind"), [(b"", "missing"), (b"{", "json_invalid"), (b"[]", "model_attributes_type")]
    )
    def test_what_is_no_object_is_a_422_list(self, bfl: Bfl, raw: bytes, kind: str) -> None:
        url = f"{bfl.simulator.url}/v1/flux-2-pro"
        answer = bfl.request("POST", url, data=raw, headers={"x-key": bfl.key})
        assert answer.status_code == 422
        assert [error["type"] for error in answer.json()["detail"]] == [kind]

    def test_unknown_fields_are_ignored_where_the_schema_is_open(self, bfl: Bfl) -> None:
        assert bfl.submit("flux-2-pro", aspect_ratio="16:9").status_code == 200

    def test_and_refused_where_it_is_strict(self, bfl: Bfl) -> None:
        answer = bfl.submit("flux-3-image", seed=1)
        assert answer.status_code == 422
        assert [error["type"] for error in answer.json()["detail"]] == ["extra_forbidden"]

    def test_a_request_of_many_megabytes_is_taken(self, bfl: Bfl) -> None:
        answer = bfl.submit(input_image=base64.b64encode(bytes(20_000_000)).decode())
        assert answer.status_code == 200


class TestSubmitAnswer:
    def test_flux_2_echoes_cost_and_megapixels(self, bfl: Bfl) -> None:
        told = bfl.submit("flux-2-pro", width=1440, height=1440).json()
        assert UUID(told["id"]).version == 4
        assert {name: told[name] for name in ("cost", "input_mp", "output_mp")} == {
            "cost": 4.5,
            "input_mp": 0.0,
            "output_mp": 1.98,
        }

    @pytest.mark.parametrize("model", ["flux-dev", "flux-kontext-max", "flux-pro-1.1", "flux-3-video"])
    def test_flux_1_and_video_echo_null(self, bfl: Bfl, model: str) -> None:
        told = bfl.submit(model, **({"mode": "t2v"} if model == "flux-3-video" else {})).json()
        assert (told["cost"], told["input_mp"], told["output_mp"]) == (None, None, None)

    def test_the_polling_host_is_never_the_submit_host(self, bfl: Bfl) -> None:
        for base in (bfl.simulator.url, bfl.simulator.eu_url, bfl.simulator.us_url):
            polling = urlsplit(bfl.submit(base=base).json()["polling_url"])
            assert polling.netloc != urlsplit(base).netloc
            assert polling.path == "/v1/get_result"

    def test_a_regional_submit_stays_in_its_region(self, bfl: Bfl) -> None:
        for _ in range(3):
            bfl.submit(base=bfl.simulator.eu_url)
            bfl.submit(base=bfl.simulator.us_url)
        assert [task.region for task in bfl.simulator.ledger.tasks] == ["eu", "us"] * 3

    def test_a_global_submit_is_spread_over_the_clusters(self, bfl: Bfl) -> None:
        for _ in range(4):
            bfl.submit()
        assert {task.region for task in bfl.simulator.ledger.tasks} == {"eu", "us"}


class TestPolling:
    def test_walks_from_pending_to_ready(self, bfl: Bfl) -> None:
        submitted = bfl.submit()
        assert bfl.status(submitted) == "Pending"
        bfl.let_everything_finish()
        answer = bfl.poll(submitted)
        assert answer.status_code == 200
        assert answer.json()["status"] == "Ready"
        assert answer.json()["id"] == submitted.json()["id"]

    def test_needs_no_key(self, bfl: Bfl) -> None:
        assert bfl.request("GET", bfl.submit().json()["polling_url"]).json()["status"] == "Pending"

    def test_every_other_host_does_not_know_the_task(self, bfl: Bfl) -> None:
        task_id = bfl.submit(base=bfl.simulator.eu_url).json()["id"]
        for name in ("submit:global", "submit:eu", "submit:us", "poll:us"):
            url = f"{bfl.simulator.addresses[name]}/v1/get_result?id={task_id}"
            answer = bfl.request("GET", url)
            assert answer.status_code == 404
            assert (answer.json()["id"], answer.json()["status"]) == (task_id, "Task not found")

    def test_without_an_id_is_a_422(self, bfl: Bfl) -> None:
        answer = bfl.request("GET", f"{bfl.simulator.addresses['poll:eu']}/v1/get_result")
        assert answer.status_code == 422
        assert answer.json()["detail"][0]["loc"] == ["query", "id"]

    def test_carries_rate_headers_and_retry_after_even_on_200(self, bfl: Bfl) -> None:
        headers = bfl.poll(bfl.submit()).headers
        assert headers["X-Ratelimit-Limit"] == "1200"
        assert int(headers["X-Ratelimit-Remaining"]) < 1200
        assert float(headers["X-Ratelimit-Reset"]) > 0
        assert headers["Retry-After"] == "1"

    def test_a_polling_host_starts_no_generation(self, bfl: Bfl) -> None:
        assert bfl.submit(base=bfl.simulator.addresses["poll:eu"]).status_code == 404
        assert bfl.simulator.ledger.posts == 0

    def test_video_settles_its_cost_at_the_end(self, bfl: Bfl) -> None:
        submitted = bfl.submit("flux-3-video", mode="t2v", duration=10)
        assert "cost" not in bfl.poll(submitted).json()
        bfl.let_everything_finish()
        assert bfl.poll(submitted).json()["cost"] == 170.0


class TestActiveTasks:
    @pytest.mark.parametrize(
        ("model", "limit", "fields"),
        [("flux-2-pro", 24, {}), ("flux-kontext-max", 6, {}), ("flux-3-video", 5, {"mode": "t2v"})],
    )
    def test_one_over_the_models_limit_is_429(self, bfl: Bfl, model: str, limit: int, fields: dict[str, Any]) -> None:
        answers = [bfl.submit(model, **fields) for _ in range(limit + 1)]
        assert [answer.status_code for answer in answers] == [200] * limit + [429]
        assert isinstance(answers[-1].json()["detail"], str)
        assert "Retry-After" not in answers[-1].headers
        ledger = bfl.simulator.ledger
        assert (ledger.posts, ledger.max_active, ledger.max_active_by_model[model]) == (limit, limit, limit)

    def test_a_full_small_model_leaves_room_for_others(self, bfl: Bfl) -> None:
        for _ in range(6):
            bfl.submit("flux-kontext-max")
        assert bfl.submit("flux-2-pro").status_code == 200

    @pytest.mark.parametrize("status", ["Ready", "Error", "Request Moderated", "Content Moderated"])
    def test_any_end_makes_room(self, bfl: Bfl, status: str) -> None:
        bfl.simulator.settings(overall_limit=1)
        first = bfl.submit()
        assert bfl.submit().status_code == 429
        bfl.simulator.finish(first.json()["id"], status)
        assert bfl.submit().status_code == 200

    def test_keys_do_not_share_slots(self, bfl: Bfl) -> None:
        bfl.simulator.settings(overall_limit=1)
        assert bfl.submit().status_code == 200
        bfl.key = "bfl_another_key"
        assert bfl.submit().status_code == 200

    def test_retry_after_can_be_asked_for(self, bfl: Bfl) -> None:
        bfl.simulator.settings(overall_limit=0, retry_after_seconds=7)
        assert bfl.submit().headers["Retry-After"] == "7"


class TestCredits:
    def test_are_debited_at_submit(self, bfl: Bfl) -> None:
        bfl.submit()
        assert bfl.credits() == 997

    def test_are_given_back_for_what_is_not_billed(self, bfl: Bfl) -> None:
        for status in ("Error", "Request Moderated", "Content Moderated"):
            bfl.simulator.finish(bfl.submit().json()["id"], status)
        assert bfl.credits() == 1000

    def test_are_neither_made_nor_lost(self, bfl: Bfl) -> None:
        bfl.simulator.fault("task", times=5, skip=3, final_status="Error")
        for model in ("flux-2-pro", "flux-2-max", "flux-dev", "flux-2-klein-4b") * 3:
            bfl.submit(model)
        bfl.let_everything_finish()
        ledger = bfl.simulator.ledger
        billed = sum(task.cost for task in ledger.tasks if task.status == "Ready")
        assert sum(task.refunded for task in ledger.tasks) == 5
        assert bfl.credits() == pytest.approx(1000 - billed)
        assert ledger.spent == pytest.approx(billed)

    def test_that_run_out_are_a_402(self, bfl: Bfl) -> None:
        bfl.simulator.set_credits(5)
        answers = [bfl.submit() for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 402]
        assert answers[1].json() == {"detail": "Insufficient credits"}


def test_the_openapi_document_lists_the_endpoints(bfl: Bfl) -> None:
    document = bfl.request("GET", f"{bfl.simulator.url}/openapi.json").json()
    assert "/v1/flux-2-pro" in document["paths"]
