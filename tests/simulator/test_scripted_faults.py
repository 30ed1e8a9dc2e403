# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import time
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
import requests
from PIL import Image

if TYPE_CHECKING:
    from tests.simulator.conftest import Bfl


class TestSubmit:
    def test_a_lost_answer_leaves_a_paid_task(self, bfl: Bfl) -> None:
        bfl.simulator.fault("submit", drop=True, accept=True)
        with pytest.raises(requests.ConnectionError):
            bfl.submit()
        ledger = bfl.simulator.ledger
        assert (ledger.posts, ledger.spent, ledger.requests[0].status) == (1, 3.0, 0)

    def test_a_lost_request_leaves_nothing(self, bfl: Bfl) -> None:
        bfl.simulator.fault("submit", drop=True)
        with pytest.raises(requests.ConnectionError):
            bfl.submit()
        assert (bfl.simulator.ledger.posts, bfl.simulator.ledger.posts_received) == (0, 1)

    @pytest.mark.parametrize("headers", [{}, {"Retry-After": "3"}])
    @pytest.mark.parametrize("status", [429, 500, 502, 503])
    def test_a_status_is_a_refusal(self, bfl: Bfl, status: int, headers: dict[str, str]) -> None:
        bfl.simulator.fault("submit", status=status, headers=headers)
        answer = bfl.submit()
        assert answer.status_code == status
        assert answer.headers.get("Retry-After") == headers.get("Retry-After")
        assert "detail" in answer.json()
        assert bfl.simulator.ledger.posts == 0
        assert bfl.submit().status_code == 200

    def test_an_error_after_acceptance_leaves_a_paid_task(self, bfl: Bfl) -> None:
        bfl.simulator.fault("submit", status=504, body="<html>gateway</html>", accept=True)
        answer = bfl.submit()
        assert (answer.status_code, answer.text) == (504, "<html>gateway</html>")
        assert bfl.simulator.ledger.posts == 1

    def test_an_answer_can_be_unreadable(self, bfl: Bfl) -> None:
        bfl.simulator.fault("submit", status=200, body="<<<", accept=True)
        with pytest.raises(requests.JSONDecodeError):
            bfl.submit().json()
        assert bfl.simulator.ledger.posts == 1

    def test_a_redirect_points_where_it_is_told_to(self, bfl: Bfl) -> None:
        bfl.simulator.fault("submit", redirect_to=bfl.simulator.canary_url)
        answer = bfl.submit()
        assert (answer.status_code, answer.headers["Location"]) == (307, bfl.simulator.canary_url)

    def test_an_answer_can_be_late_while_the_task_already_runs(self, bfl: Bfl) -> None:
        bfl.simulator.fault("submit", delay_seconds=5, accept=True)
        url = f"{bfl.simulator.url}/v1/flux-2-pro"
        with pytest.raises(requests.ReadTimeout):
            requests.post(url, json={"prompt": "x"}, headers={"x-key": bfl.key}, timeout=0.3)
        assert bfl.simulator.ledger.posts == 1

    def test_a_refused_request_stays_refused_under_a_fault_that_would_accept(self, bfl: Bfl) -> None:
        bfl.simulator.fault("submit", drop=True, accept=True)
        assert bfl.submit(width=1).status_code == 422


class TestTask:
    @pytest.mark.parametrize(
        "status", ["Error", "Failed", "Request Moderated", "Content Moderated", "Task not found", "Queued For Review"]
    )
    def test_ends_as_told(self, bfl: Bfl, status: str) -> None:
        bfl.simulator.fault("task", final_status=status)
        submitted = bfl.submit()
        assert bfl.status(submitted) == "Pending"
        bfl.let_everything_finish()
        assert bfl.status(submitted) == status
        assert bfl.poll(submitted).json()["result"] is None

    def test_gives_the_details_it_was_told(self, bfl: Bfl) -> None:
        details = {"Moderation Reasons": ["Violence", "Sexual Content"]}
        bfl.simulator.fault("task", final_status="Content Moderated", details=details)
        submitted = bfl.submit()
        bfl.let_everything_finish()
        assert bfl.poll(submitted).json()["details"] == details

    def test_can_be_picked_by_prompt(self, bfl: Bfl) -> None:
        bfl.simulator.fault("task", prompt="blue", final_status="Error")
        red, blue = bfl.submit(prompt="a red kite"), bfl.submit(prompt="a blue kite")
        bfl.let_everything_finish()
        assert [bfl.status(red), bfl.status(blue)] == ["Ready", "Error"]

    def test_is_not_met_by_a_request_that_is_refused(self, bfl: Bfl) -> None:
        bfl.simulator.fault("task", final_status="Error")
        bfl.submit(width=1)
        submitted = bfl.submit()
        bfl.let_everything_finish()
        assert bfl.status(submitted) == "Error"

    def test_can_be_stuck_until_it_is_ended_by_hand(self, bfl: Bfl) -> None:
        bfl.simulator.fault("task", stuck=True)
        submitted = bfl.submit()
        bfl.simulator.advance(1_000_000)
        assert bfl.status(submitted) == "Pending"
        bfl.simulator.finish(submitted.json()["id"])
        assert bfl.status(submitted) == "Ready"

    def test_can_take_its_own_time(self, bfl: Bfl) -> None:
        bfl.simulator.fault("task", latency_seconds=5000)
        submitted = bfl.submit()
        bfl.simulator.advance(4000)
        assert bfl.status(submitted) == "Pending"
        bfl.simulator.advance(1000)
        assert bfl.status(submitted) == "Ready"

    def test_can_be_unknown_to_the_first_polls(self, bfl: Bfl) -> None:
        bfl.simulator.fault("task", hidden_polls=2)
        submitted = bfl.submit()
        answers = [bfl.poll(submitted) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [404, 404, 200]
        assert answers[0].json()["status"] == "Task not found"

    def test_can_be_given_a_polling_host_that_does_not_know_it(self, bfl: Bfl) -> None:
        bfl.simulator.fault("task", wrong_polling_host=True)
        assert bfl.poll(bfl.submit()).status_code == 404

    def test_can_be_given_any_polling_url(self, bfl: Bfl) -> None:
        bfl.simulator.fault("task", polling_url=bfl.simulator.canary_url + "/poll?id={id}")
        told = bfl.submit().json()
        assert told["polling_url"] == f"{bfl.simulator.canary_url}/poll?id={told['id']}"

    def test_can_be_given_any_sample_url(self, bfl: Bfl) -> None:
        bfl.simulator.fault("task", sample_url="http://169.254.169.254/latest")
        assert bfl.sample(bfl.submit()) == "http://169.254.169.254/latest"

    def test_can_have_a_result_of_any_size(self, bfl: Bfl) -> None:
        bfl.simulator.fault("task", body_bytes=3_000_000)
        answer = bfl.download(bfl.sample(bfl.submit(output_format="png")))
        assert len(answer.content) == 3_000_000
        Image.open(BytesIO(answer.content)).load()

    def test_can_meet_a_submit_fault_as_well(self, bfl: Bfl) -> None:
        bfl.simulator.fault("submit", status=502, accept=True)
        bfl.simulator.fault("task", final_status="Error")
        bfl.submit()
        bfl.let_everything_finish()
        assert [task.status for task in bfl.simulator.ledger.tasks] == ["Error"]


class TestPoll:
    @pytest.mark.parametrize("status", [422, 503])
    def test_an_error_status_can_carry_the_task_body(self, bfl: Bfl, status: int) -> None:
        submitted = bfl.submit()
        bfl.simulator.fault("poll", status=status)
        answer = bfl.poll(submitted)
        assert answer.status_code == status
        assert (answer.json()["id"], answer.json()["status"]) == (submitted.json()["id"], "Pending")

    def test_or_a_body_of_its_own(self, bfl: Bfl) -> None:
        submitted = bfl.submit()
        bfl.simulator.fault("poll", status=503, body={"detail": "maintenance"}, headers={"Retry-After": "9"})
        answer = bfl.poll(submitted)
        assert (answer.status_code, answer.json()) == (503, {"detail": "maintenance"})
        assert answer.headers["Retry-After"] == "9"

    def test_a_status_can_be_pretended_for_one_poll(self, bfl: Bfl) -> None:
        submitted = bfl.submit()
        bfl.simulator.fault("poll", status_body="Task not found", status=404)
        assert [bfl.status(submitted), bfl.status(submitted)] == ["Task not found", "Pending"]

    def test_the_first_polls_can_be_404(self, bfl: Bfl) -> None:
        submitted = bfl.submit()
        bfl.simulator.fault("poll", status=404, body={"detail": "Not Found"}, times=3)
        assert [bfl.poll(submitted).status_code for _ in range(4)] == [404, 404, 404, 200]

    def test_a_connection_can_be_dropped(self, bfl: Bfl) -> None:
        submitted = bfl.submit()
        bfl.simulator.fault("poll", drop=True)
        with pytest.raises(requests.ConnectionError):
            bfl.poll(submitted)
        assert bfl.status(submitted) == "Pending"

    def test_a_redirect_points_where_it_is_told_to(self, bfl: Bfl) -> None:
        submitted = bfl.submit()
        bfl.simulator.fault("poll", redirect_to="http://example.org/", status=302)
        answer = bfl.poll(submitted)
        assert (answer.status_code, answer.headers["Location"]) == (302, "http://example.org/")

    def test_one_task_can_be_picked(self, bfl: Bfl) -> None:
        first, second = bfl.submit(), bfl.submit()
        bfl.simulator.fault("poll", task_id=second.json()["id"], status=500, body="x")
        assert [bfl.poll(each).status_code for each in (first, second)] == [200, 500]

    def test_the_sample_url_can_be_another(self, bfl: Bfl) -> None:
        submitted = bfl.submit()
        right = bfl.sample(submitted)
        bfl.simulator.fault("poll", sample_url="{url}&x=1")
        assert bfl.poll(submitted).json()["result"]["sample"] == right + "&x=1"


class TestDelivery:
    @pytest.fixture
    def url(self, bfl: Bfl) -> str:
        return bfl.sample(bfl.submit(width=256, height=256))

    def test_can_be_cut_short_of_its_declared_length(self, bfl: Bfl, url: str) -> None:
        whole = bfl.download(url)
        bfl.simulator.fault("delivery", cut_after=0.5)
        answer = bfl.download(url, stream=True)
        assert answer.headers["Content-Length"] == whole.headers["Content-Length"]
        received: list[bytes] = []
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            received.extend(answer.iter_content(1))
        assert b"".join(received) == whole.content[: len(whole.content) // 2]

    def test_can_be_cut_in_chunks_without_a_length(self, bfl: Bfl, url: str) -> None:
        bfl.simulator.fault("delivery", cut_after=0.5, framing="chunked")
        answer = bfl.download(url, stream=True)
        assert "Content-Length" not in answer.headers
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            answer.content  # noqa: B018

    def test_can_be_cut_where_nothing_in_http_tells(self, bfl: Bfl, url: str) -> None:
        whole = bfl.download(url).content
        bfl.simulator.fault("delivery", cut_after=0.5, framing="close")
        answer = bfl.download(url)
        assert not {"Content-Length", "Transfer-Encoding"} & set(answer.headers)
        assert answer.content == whole[: len(whole) // 2]

    @pytest.mark.parametrize("framing", ["length", "chunked", "close"])
    def test_is_whole_in_every_framing(self, bfl: Bfl, url: str, framing: str) -> None:
        whole = bfl.download(url).content
        bfl.simulator.fault("delivery", framing=framing)
        assert bfl.download(url).content == whole

    def test_can_be_slow(self, bfl: Bfl, url: str) -> None:
        size_bytes = len(bfl.download(url).content)
        bfl.simulator.fault("delivery", bytes_per_second=size_bytes * 2)
        began = time.monotonic()
        assert len(bfl.download(url).content) == size_bytes
        assert time.monotonic() - began > 0.4

    def test_can_be_something_else(self, bfl: Bfl, url: str) -> None:
        bfl.simulator.fault("delivery", content=b"<html>no image</html>", content_type="text/html")
        answer = bfl.download(url)
        assert (answer.content, answer.headers["Content-Type"]) == (b"<html>no image</html>", "text/html")

    def test_can_be_expired_before_its_time(self, bfl: Bfl, url: str) -> None:
        bfl.simulator.fault("delivery", expired=True)
        assert [bfl.download(url).status_code for _ in range(2)] == [403, 200]

    @pytest.mark.parametrize(
        ("fault", "status"), [({"status": 500}, 500), ({"redirect_to": "http://example.org/"}, 307)]
    )
    def test_can_be_an_error_or_a_redirect(self, bfl: Bfl, url: str, fault: dict[str, Any], status: int) -> None:
        bfl.simulator.fault("delivery", **fault)
        assert bfl.download(url).status_code == status

    def test_can_be_dropped(self, bfl: Bfl, url: str) -> None:
        bfl.simulator.fault("delivery", drop=True)
        with pytest.raises(requests.ConnectionError):
            bfl.download(url)

    def test_streams_a_large_body_that_a_client_may_leave_early(self, bfl: Bfl, url: str) -> None:
        bfl.simulator.fault("delivery", body_bytes=2_000_000_000)
        with bfl.download(url, stream=True) as answer:
            assert answer.headers["Content-Length"] == "2000000000"
            assert len(next(answer.iter_content(1000))) == 1000
        deadline = time.monotonic() + 10
        while not bfl.simulator.ledger.of_role("delivery") and time.monotonic() < deadline:
            time.sleep(0.01)
        assert [row.status for row in bfl.simulator.ledger.of_role("delivery")] == [200]


class TestCredits:
    def test_can_fail(self, bfl: Bfl) -> None:
        bfl.simulator.fault("credits", status=500)
        url = f"{bfl.simulator.url}/v1/credits"
        assert bfl.request("GET", url, headers={"x-key": bfl.key}).status_code == 500
        assert bfl.credits() == 1000
