# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from queue import Queue
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.simulator.conftest import Bfl


class Receiver(HTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.received: Queue[tuple[dict[str, str], Any]] = Queue()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook"


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.received.put((dict(self.headers), body))
        self.send_response(202)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class TestWebhook:
    def test_the_submit_answer_has_no_polling_url(self, bfl: Bfl, receiver: Receiver) -> None:
        told = bfl.submit(webhook_url=receiver.url).json()
        assert set(told) == {"id", "status", "webhook_url", "cost", "input_mp", "output_mp"}
        assert (told["status"], told["webhook_url"], told["cost"]) == ("Pending", receiver.url, 3.0)

    def test_the_end_is_posted_as_the_poll_body_with_the_secret(self, bfl: Bfl, receiver: Receiver) -> None:
        submitted = bfl.submit(webhook_url=receiver.url, webhook_secret="between us").json()
        bfl.let_everything_finish()
        headers, body = receiver.received.get(timeout=10)
        assert headers["X-Webhook-Secret"] == "between us"
        assert (body["id"], body["status"]) == (submitted["id"], "Ready")
        assert bfl.download(body["result"]["sample"]).status_code == 200

    def test_a_bad_end_is_posted_too(self, bfl: Bfl, receiver: Receiver) -> None:
        bfl.simulator.finish(bfl.submit(webhook_url=receiver.url).json()["id"], "Content Moderated")
        headers, body = receiver.received.get(timeout=10)
        assert body["status"] == "Content Moderated"
        assert "X-Webhook-Secret" not in headers

    def test_the_ledger_keeps_no_secret(self, bfl: Bfl, receiver: Receiver) -> None:
        bfl.submit(webhook_url=receiver.url, webhook_secret="between us")
        bfl.let_everything_finish()
        receiver.received.get(timeout=10)
        assert "between us" not in repr(bfl.simulator.ledger)
