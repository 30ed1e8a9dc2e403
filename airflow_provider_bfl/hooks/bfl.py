# SPDX-License-Identifier: Apache-2.0
"""An Airflow connection becomes a BFL client, sync and async."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_bfl import connection_form
from airflow_provider_bfl.api.messages import PollFailure, PollResult, Submission
from airflow_provider_bfl.api.polling import Finished, Poller, TimedOut, Unreachable, Wait
from airflow_provider_bfl.exceptions import BflAuthenticationError, BflError, BflPollError
from airflow_provider_bfl.hooks.settings import read_settings

if TYPE_CHECKING:
    from airflow_provider_bfl.transport.aio import AsyncBflClient
    from airflow_provider_bfl.transport.settings import Download, Settings
    from airflow_provider_bfl.transport.sync import BflClient


class BflHook(BaseHook):
    """
    Talk to Black Forest Labs' API as an Airflow connection says.

    The password of the connection is the API key. It is read where it is used, is part of no argument, XCom, trigger
    or log, and goes to BFL's API hosts (and ``trusted_hosts``) alone.

    Every method has an async twin whose name starts with ``a``; the twins open a session per call. Code that polls in
    a loop uses :meth:`async_client` and keeps one.

    :param bfl_conn_id: The connection, of type ``bfl``. Default ``bfl_default``.
    """

    conn_name_attr = "bfl_conn_id"
    default_conn_name = "bfl_default"
    conn_type = connection_form.CONN_TYPE
    hook_name = connection_form.HOOK_NAME

    def __init__(self, bfl_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bfl_conn_id = bfl_conn_id

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the form's extra fields, for Airflow before 3.2."""
        return connection_form.build_form_widgets()

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return what the form does with the standard fields, for Airflow before 3.2."""
        return connection_form.build_ui_field_behaviour()

    @cached_property
    def settings(self) -> Settings:
        """What the connection says; raises ``BflConfigError`` where it cannot be used."""
        return self._announce(read_settings(self.get_connection(self.bfl_conn_id)))

    async def asettings(self) -> Settings:
        """Return what the connection says, without blocking the event loop."""
        from airflow.providers.common.compat.connection import get_async_connection

        if "settings" not in self.__dict__:
            conn = await get_async_connection(self.bfl_conn_id, hook=self)
            self.__dict__["settings"] = self._announce(read_settings(conn))
        return self.settings

    def _announce(self, settings: Settings) -> Settings:
        if settings.trust.base is not None:
            self.log.info("Connection %s uses the base URL %s.", self.bfl_conn_id, settings.base_url)
        return settings

    @cached_property
    def _client(self) -> BflClient:
        from airflow_provider_bfl.transport.sync import BflClient

        return BflClient(self.settings)

    def get_conn(self) -> BflClient:
        """Return the client of this hook; one connection pool, opened at first use."""
        return self._client

    @asynccontextmanager
    async def async_client(self) -> AsyncIterator[AsyncBflClient]:
        """Open an async client and close it at the end, on success, error and cancellation."""
        client_class = await asyncio.to_thread(_async_client_class)
        async with client_class(await self.asettings()) as client:
            yield client

    def submit(self, model: str, body: Mapping[str, Any]) -> Submission:
        """
        POST one request, once; every call may pay.

        :param model: BFL's endpoint, ``flux-2-pro`` or ``flux-tools/erase-v1``.
        :param body: BFL's own field names, media as https URL or plain base64.
        :raises BflError: see :func:`~airflow_provider_bfl.api.messages.read_submission`.
        """
        return self.get_conn().submit(model, body)

    async def asubmit(self, model: str, body: Mapping[str, Any]) -> Submission:
        """Async twin of :meth:`submit`."""
        async with self.async_client() as client:
            return await client.submit(model, body)

    def get_result(self, polling_url: str) -> PollResult:
        """
        Ask once for a result; free and safe to repeat.

        :param polling_url: As BFL returned it.
        :raises BflUntrustedUrlError: the URL may not get the key.
        :raises BflAuthenticationError: the key was refused.
        :raises BflPollError: there was no answer about the task.
        """
        return answer_or_raise(self.get_conn().poll(polling_url))

    async def aget_result(self, polling_url: str) -> PollResult:
        """Async twin of :meth:`get_result`."""
        async with self.async_client() as client:
            return answer_or_raise(await client.poll(polling_url))

    def get_credits(self) -> float:
        """Return the account's balance in credits; free."""
        return self.get_conn().credits()

    async def aget_credits(self) -> float:
        """Async twin of :meth:`get_credits`."""
        async with self.async_client() as client:
            return await client.credits()

    def download(self, url: str, sink: BinaryIO) -> Download:
        """
        Stream the result behind a signed URL into ``sink``, without the key.

        :raises BflUntrustedUrlError: the host may not be downloaded from.
        :raises BflResultExpiredError: the URL has expired; ask for the result again.
        :raises BflDownloadError: the body could not be had whole.
        """
        self._mask_signature(url)
        return self.get_conn().download(url, sink)

    async def adownload(self, url: str, sink: BinaryIO) -> Download:
        """Async twin of :meth:`download`."""
        self._mask_signature(url)
        async with self.async_client() as client:
            return await client.download(url, sink)

    def test_connection(self) -> tuple[bool, str]:
        """Ask for the balance; never generates anything."""
        try:
            balance = self.get_credits()
        except BflError as error:
            return False, str(error)
        where = urlsplit(self.settings.base_url).netloc
        return (
            True,
            f"Connected to {where} (region {self.settings.trust.region}). Balance: {balance:g} credits.",
        )

    def wait(
        self, polling_url: str, poller: Poller, *, until: float | None = None
    ) -> Finished | TimedOut | Unreachable | None:
        """
        Poll until the generation ends, one line in the log for each change of its status.

        :param until: Wall-clock seconds at which to give up early and return None; None waits to the deadline.
        """
        client, progress = self.get_conn(), _Progress(self, polling_url)
        delay = poller.first_delay(time.time())
        while until is None or time.time() + delay <= until:
            time.sleep(delay)
            reply = client.poll(polling_url)
            verdict = poller.judge(reply, time.time())
            progress.note(reply, verdict)
            if not isinstance(verdict, Wait):
                return verdict
            delay = verdict.seconds
        return None

    async def await_result(
        self, polling_url: str, poller: Poller, *, not_before: float = 0.0
    ) -> Finished | TimedOut | Unreachable:
        """
        Async twin of :meth:`wait`, over one session.

        :param not_before: Wall-clock seconds before which nothing is asked.
        """
        progress = _Progress(self, polling_url)
        async with self.async_client() as client:
            now = time.time()
            delay = max(poller.first_delay(now), not_before - now)
            while True:
                await asyncio.sleep(delay)
                reply = await client.poll(polling_url)
                verdict = poller.judge(reply, time.time())
                progress.note(reply, verdict)
                if not isinstance(verdict, Wait):
                    return verdict
                delay = verdict.seconds

    def _mask_signature(self, url: str) -> None:
        # The second line of defence: libraries log URLs at DEBUG.
        from airflow.providers.common.compat.sdk import mask_secret

        if query := url.partition("?")[2]:
            mask_secret(query)


def _async_client_class() -> type[AsyncBflClient]:
    # Importing aiohttp takes a tenth of a second, which the event loop of a triggerer has not: call it in a thread.
    from airflow_provider_bfl.transport.aio import AsyncBflClient

    return AsyncBflClient


class _Progress:
    """What a wait says in the log: a change of status once, everything else at DEBUG."""

    def __init__(self, hook: BflHook, polling_url: str) -> None:
        from airflow_provider_bfl.api.messages import generation_id_of

        self._log = hook.log
        self._generation_id = generation_id_of(polling_url) or "(unknown id)"
        self._status: str | None = None

    def note(self, reply: PollResult | PollFailure, verdict: object) -> None:
        """Log one poll."""
        if isinstance(reply, PollFailure):
            self._log.debug("Generation %s: poll failed: %s", self._generation_id, reply.reason)
            return
        changed = reply.status != self._status
        self._status = reply.status
        (self._log.info if changed else self._log.debug)("Generation %s: %s", self._generation_id, reply.status)
        if isinstance(verdict, Wait) and verdict.warning:
            self._log.warning("Generation %s: %s", self._generation_id, verdict.warning)


def answer_or_raise(reply: PollResult | PollFailure) -> PollResult:
    """Return the answer about the task, or raise the error of a poll that brought none."""
    if isinstance(reply, PollResult):
        return reply
    raise poll_error(reply, generation_id=None)


def poll_error(failure: PollFailure, *, generation_id: str | None) -> BflError:
    """Return the typed error of a wait that failed polls ended."""
    named = f"generation {generation_id}" if generation_id else "the generation"
    message = (
        f"Polling {named} failed ({failure.reason}). The generation itself may go on and is billed once; "
        "a retry re-attaches to it and pays nothing."
    )
    error = BflAuthenticationError if failure.unauthorized else BflPollError
    return error(message, generation_id=generation_id)
