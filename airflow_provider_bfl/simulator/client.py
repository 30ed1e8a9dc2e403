# SPDX-License-Identifier: Apache-2.0
"""
A remote control for a running simulator, from any process: faults, clock, credits, ledger, connection.

Only the standard library is used, so a test, a Dag or a script can hold it without pulling anything in.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection
from typing import Any, Literal
from urllib.parse import quote, urlencode, urlsplit

from airflow_provider_bfl.simulator.faults import Fault, Kind, fault_from_json
from airflow_provider_bfl.simulator.ledger import Leak, RequestRow, WebhookRow

Region = Literal["global", "eu", "us"]

DEFAULT_KEY = "bfl_simulator_key"
_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class TaskRow:
    """
    One accepted generation, as the ledger shows it.

    :param key: Fingerprint of the key that pays.
    :param request: The request with secrets and long values shortened.
    :param status: Its status now.
    :param cost: Credits debited at submit.
    :param refunded: Whether they were given back.
    :param seed: The seed that was used, given or drawn.
    :param finishes_at: Unix seconds on the simulator's clock; None for a task that never ends.
    :param polls: How often its own polling host was asked.
    """

    id: str
    model: str
    key: str
    region: str
    request: dict[str, Any]
    status: str
    cost: float
    refunded: bool
    seed: int
    submitted_at: float
    finishes_at: float | None
    polls: int


@dataclass(frozen=True)
class LedgerView:
    """
    What happened so far; a snapshot, ask again for a newer one.

    :param posts: Generations accepted, whether or not the answer reached the client: what BFL would bill.
    :param tasks: Those generations, in order.
    :param requests: Every request but the control API's, in order of their answers.
    :param leaks: Every key and credential header that arrived where none belongs.
    :param webhooks: Every webhook sent.
    :param answers: How many answers of each kind, by ``"<role> <status>"``.
    :param active: Tasks running now.
    :param max_active: Most tasks one key ever had running at once; ``max_active_by_model`` the same per model.
    :param credits: Balance by key fingerprint.
    :param spent: Credits debited and not refunded, over all keys.
    :param faults_left: Scripted faults not used up.
    """

    posts: int
    tasks: tuple[TaskRow, ...]
    requests: tuple[RequestRow, ...]
    leaks: tuple[Leak, ...]
    webhooks: tuple[WebhookRow, ...]
    answers: dict[str, int]
    active: int
    max_active: int
    max_active_by_model: dict[str, int]
    credits: dict[str, float]
    spent: float
    faults_left: int

    @property
    def posts_received(self) -> int:
        """Requests to start a generation that arrived, refused ones included."""
        return sum(row.method == "POST" and row.role == "submit" for row in self.requests)

    def of_role(self, role: str) -> tuple[RequestRow, ...]:
        """The requests to ``submit``, ``poll``, ``delivery`` or ``canary`` hosts."""
        return tuple(row for row in self.requests if row.role == role)


class SimulatorClient:
    """
    Talks to the control API of a simulator.

    :param control_url: Base URL of the control listener.
    """

    def __init__(self, control_url: str) -> None:
        self._control_url = control_url
        self._addresses: dict[str, str] | None = None

    # --- where things are ---

    @property
    def control_url(self) -> str:
        return self._control_url

    @property
    def addresses(self) -> dict[str, str]:
        """Base URL of every listener, by ``role:region``."""
        if self._addresses is None:
            self._addresses = self._ask("GET", "/addresses")
        return self._addresses

    @property
    def url(self) -> str:
        """What stands for https://api.bfl.ai."""
        return self.addresses["submit:global"]

    @property
    def eu_url(self) -> str:
        """What stands for https://api.eu.bfl.ai."""
        return self.addresses["submit:eu"]

    @property
    def us_url(self) -> str:
        """What stands for https://api.us.bfl.ai."""
        return self.addresses["submit:us"]

    @property
    def canary_url(self) -> str:
        """A host that is none of BFL's: whatever arrives there should not have been sent."""
        return self.addresses["canary"]

    @property
    def trusted_hosts(self) -> list[str]:
        """``host:port`` of every host that may be told the key."""
        return self._hosts("submit:", "poll:")

    @property
    def delivery_hosts(self) -> list[str]:
        """``host:port`` of every host results are downloaded from."""
        return self._hosts("delivery:")

    def connection(self, region: Region = "global", api_key: str = DEFAULT_KEY) -> dict[str, Any]:
        """
        Build the fields of an Airflow connection to this simulator.

        :param region: The submit host to use; a region's own hosts are then the only trusted ones.
        :param api_key: Any key the simulator takes.
        """
        only = "" if region == "global" else region
        return {
            "conn_type": "bfl",
            "password": api_key,
            "host": self.addresses[f"submit:{region}"],
            "extra": {
                "region": region,
                "trusted_hosts": self._hosts(f"submit:{only}", f"poll:{only}"),
                "delivery_hosts": self._hosts(f"delivery:{only}"),
            },
        }

    def connection_json(self, region: Region = "global", api_key: str = DEFAULT_KEY) -> str:
        """The value of ``AIRFLOW_CONN_BFL_DEFAULT`` that connects Airflow to this simulator."""
        return json.dumps(self.connection(region, api_key))

    def connection_uri(self, region: Region = "global", api_key: str = DEFAULT_KEY) -> str:
        """The same as a connection URI."""
        fields = self.connection(region, api_key)
        query = urlencode({"__extra__": json.dumps(fields["extra"])})
        return f"bfl://:{quote(api_key, safe='')}@{quote(fields['host'], safe='')}/?{query}"

    def _hosts(self, *prefixes: str) -> list[str]:
        return [urlsplit(url).netloc for name, url in self.addresses.items() if name.startswith(prefixes)]

    # --- what is to happen ---

    def fault(self, on: Kind, **effects: Any) -> None:
        """
        Script a fault.

        :param on: The requests it waits for: ``submit``, ``poll``, ``delivery`` or ``credits``.
        :param effects: The other fields of ``Fault``.
        :raises ValueError: for an effect that does not exist or does not fit.
        """
        fault = fault_from_json({"on": on, **effects})
        document = {name: value for name, value in vars(fault).items() if value != getattr(Fault, name, None)}
        if fault.times is None:
            document["times"] = None
        if fault.content is not None:
            document["content"] = base64.b64encode(fault.content).decode()
        self._ask("POST", "/faults", document)

    def clear_faults(self) -> None:
        """Forget every scripted fault; tasks already touched by one keep what it did to them."""
        self._ask("DELETE", "/faults")

    def settings(self, **changes: Any) -> dict[str, Any]:
        """
        Change settings for the tasks to come, and return them all.

        :param changes: Fields of ``Settings``; none changes nothing.
        """
        answer: dict[str, Any] = self._ask("POST", "/settings", changes)
        return answer

    def advance(self, seconds: float) -> None:
        """Move the simulator's clock ahead: tasks finish and URLs expire as if the time had passed."""
        self._ask("POST", "/clock", {"advance_seconds": seconds})

    def set_credits(self, amount: float) -> None:
        """Give every key this balance, also those not seen yet."""
        self._ask("POST", "/credits", {"credits": amount})

    def finish(self, task_id: str, status: str = "Ready", details: dict[str, Any] | None = None) -> None:
        """
        End a running task now.

        :param task_id: The task.
        :param status: How it ends.
        :param details: The ``details`` of that ending; None takes BFL's usual ones.
        """
        self._ask("POST", "/finish", {"task_id": task_id, "status": status, "details": details})

    def reset(self) -> None:
        """Forget tasks, accounts, faults, ledger and the clock's offset; keep settings and addresses."""
        self._ask("POST", "/reset")

    # --- what has happened ---

    @property
    def ledger(self) -> LedgerView:
        """Everything that happened so far."""
        told: dict[str, Any] = self._ask("GET", "/ledger")
        return LedgerView(
            **told
            | {
                "tasks": tuple(TaskRow(**row) for row in told["tasks"]),
                "requests": tuple(RequestRow(**row) for row in told["requests"]),
                "leaks": tuple(Leak(**row) for row in told["leaks"]),
                "webhooks": tuple(WebhookRow(**row) for row in told["webhooks"]),
            }
        )

    def _ask(self, method: str, path: str, document: Any = None) -> Any:
        # No urllib.request: it would obey proxies set in the environment, even for the loopback address.
        connection = HTTPConnection(urlsplit(self.control_url).netloc, timeout=_TIMEOUT_SECONDS)
        try:
            connection.request(method, path, body=None if document is None else json.dumps(document))
            answer = connection.getresponse()
            told = json.load(answer)
        finally:
            connection.close()
        if answer.status != HTTPStatus.OK:
            raise ValueError(told["error"])
        return told
