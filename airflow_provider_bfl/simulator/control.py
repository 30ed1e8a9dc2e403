# SPDX-License-Identifier: Apache-2.0
"""The control API: faults, settings, clock and credits in; addresses and ledger out. JSON over HTTP, no key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_bfl.simulator.faults import fault_from_json
from airflow_provider_bfl.simulator.replies import json_reply
from airflow_provider_bfl.simulator.tasks import READY, Outcome
from airflow_provider_bfl.simulator.world import World

if TYPE_CHECKING:
    from aiohttp import web

Command = Callable[[Any], object]


class Control:
    """
    The control listener.

    :param world: What it controls.
    :param addresses: Base URL of every listener.
    """

    def __init__(self, world: World, addresses: Mapping[str, str]) -> None:
        self._world = world
        self._addresses = addresses
        self._commands: Mapping[tuple[str, str], Command] = {
            ("GET", "/addresses"): lambda _: dict(self._addresses),
            ("GET", "/ledger"): lambda _: world.ledger_json(),
            ("POST", "/faults"): self._add_faults,
            ("DELETE", "/faults"): lambda _: world.faults.clear(),
            ("POST", "/settings"): self._change_settings,
            ("POST", "/clock"): self._move_clock,
            ("POST", "/credits"): self._set_credits,
            ("POST", "/finish"): self._finish,
            ("POST", "/reset"): lambda _: world.reset(),
        }

    async def answer(self, request: web.Request) -> web.Response:
        """Carry out one command; 400 with the reason when it makes no sense, 404 when there is none such."""
        command = self._commands.get((request.method, request.path))
        if command is None:
            known = ", ".join(f"{verb} {path}" for verb, path in self._commands)
            return json_reply({"error": f"There is no such command. There are: {known}."}, status=404)
        try:
            document = await request.json() if request.can_read_body else {}
            return json_reply(command(document))
        except (ValueError, TypeError, KeyError) as error:
            return json_reply({"error": f"{type(error).__name__}: {error}"}, status=400)

    def _add_faults(self, document: Any) -> object:
        scripted = document if isinstance(document, list) else [document]
        faults = [fault_from_json(each) for each in scripted]
        for fault in faults:
            self._world.faults.add(fault)
        return {"faults_left": self._world.faults.left}

    def _change_settings(self, document: Any) -> object:
        self._world.settings = self._world.settings.changed(document)
        return vars(self._world.settings)

    def _move_clock(self, document: Any) -> object:
        self._world.clock.offset_seconds += float(document["advance_seconds"])
        return {"now": self._world.clock.now()}

    def _set_credits(self, document: Any) -> object:
        """Give every account, and every key not seen yet, this balance."""
        self._world.starting_credits = float(document["credits"])
        for account in self._world.accounts.values():
            account.settle(self._world.clock.now())
            account.credits = self._world.starting_credits
        return None

    def _finish(self, document: Any) -> object:
        outcome = Outcome(document.get("status", READY), document.get("details"))
        self._world.finish(document["task_id"], outcome)
        return None
