# SPDX-License-Identifier: Apache-2.0
"""The fuzz targets on known inputs: where the fuzzer starts, a fixed share of its mutations, and what it once found."""

from __future__ import annotations

import random
from typing import Any

import pytest

from airflow_provider_bfl.api.trust import Trust
from tests.fuzz import targets
from tests.fuzz.mutation import mutate_json
from tests.fuzz.seeds import seeds
from tests.fuzz.targets import HEAD_LINES, TARGETS

MUTATIONS_PER_SEED = 40

FOUND = {
    "an id with a line break": ("submission", b'200\n\n{"id": "a\\nb", "polling_url": "https://api.bfl.ai/x"}'),
    "an id as long as a book": ("submission", b'200\n\n{"id": "%s", "polling_url": "x"}' % (b"a" * 5000)),
    "an id that is a signed URL": ("submission", b'200\n\n{"id": "https://h/x?sig=1"}'),
    "a task's id with a line break": ("poll", b'\n200\n\n{"id": "a\\nb", "status": "Ready"}'),
    "a URL that a dropped character hides": ("poll", b'\n401\n\n{"detail": "https:\\u200b//h/x?sig=1"}'),
    "a time before the calendar": (
        "sidecar",
        b'{"schema_version": 1, "uri": "x", "size": 1, "landed_at": "0001-01-01T00:00:00+14:00"}',
    ),
    "a content type that is a signed URL": ("media", b"https://h/x?sig=1\n\n\1\2\3"),
}


class TestTheTargets:
    @pytest.mark.parametrize("name", TARGETS)
    def test_find_nothing_in_what_is_well_formed_or_nearly(self, name: str) -> None:
        chance = random.Random(name)
        for seed in seeds()[name]:
            TARGETS[name](seed)
            for _ in range(MUTATIONS_PER_SEED if name in HEAD_LINES else 0):
                TARGETS[name](mutate_json(seed, head_lines=HEAD_LINES[name], chance=chance) or b"")

    @pytest.mark.parametrize("found", FOUND)
    def test_find_nothing_any_more_in_what_they_once_found(self, found: str) -> None:
        name, data = FOUND[found]
        TARGETS[name](data)


class TestTheTargetsWouldFind:
    """Each kind of promise broken once."""

    def test_an_error_that_is_not_typed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*args: Any, **kwargs: Any) -> None:
            raise KeyError("polling_url")

        monkeypatch.setattr(targets.messages, "read_submission", broken)
        with pytest.raises(KeyError):
            targets.submission(b"200\n\n{}")

    @pytest.mark.parametrize(
        "url",
        [
            "https://evil.com/x",
            "https://api.bfl.ai.evil.com/x",
            "https://user@api.bfl.ai/x",
            "http://api.bfl.ai/x",
            "https://evil.com\\@api.bfl.ai/x",
            "https://api.bfl.ai /x",
        ],
    )
    def test_a_url_that_should_not_have_been_accepted(self, url: str) -> None:
        with pytest.raises((AssertionError, ValueError)):
            targets.check_trusted(url, Trust())

    def test_a_host_outside_the_eu(self) -> None:
        targets.check_trusted("https://api.us.bfl.ai/x", Trust())
        with pytest.raises(AssertionError):
            targets.check_trusted("https://api.us.bfl.ai/x", Trust(region="eu"))

    def test_a_key_that_is_echoed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(targets, "clean_reply", lambda _, status, head, body: targets.HttpReply(status, head, body))
        with pytest.raises(AssertionError):
            targets.echo(b"x\ny\n")

    def test_a_signature_that_is_shown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(targets.messages, "redact_urls", lambda text: text)
        with pytest.raises(AssertionError):
            targets.urls(b"\0https://api.bfl.ai/x")
