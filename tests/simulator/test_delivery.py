# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from dataclasses import replace

import pytest

from airflow_provider_bfl.simulator.delivery import (
    blob_id,
    blob_id_in,
    blob_path,
    lifetime_seconds,
    refuse,
    signed_query,
)
from airflow_provider_bfl.simulator.tasks import Artwork, Quote, Task

# 2026-08-15T19:12:20Z
READY_AT = 1_786_821_140.0
TASK = Task("t", "flux-2-pro", "a", "eu", Artwork("", 1, 64, 64, "jpeg"), Quote(3.0), READY_AT - 10, 10.0)
PATH = blob_path(TASK)
SECRET = b"s" * 32
QUERY = signed_query(PATH, expires_at=READY_AT + 600.7, content_type="image/jpeg", secret=SECRET)


def verdict(path: str = PATH, query: str = QUERY, *, now: float = READY_AT) -> str | None:
    error = refuse(path, query, now=now, content_type="image/jpeg", secret=SECRET)
    return error.body if error else None


class TestForm:
    def test_the_path_is_laid_out_as_bfl_lays_it_out_today(self) -> None:
        form = r"/durable/2026081519/[0-9a-f-]{36}/[0-9a-f]{2}/[0-9a-f]{6}([0-9a-f]{8})/([0-9a-f]{32})/sample\.jpeg"
        found = re.fullmatch(form, PATH)
        assert found
        assert found[2].startswith(found[1])

    def test_the_account_part_is_the_same_for_all_tasks_of_a_key(self) -> None:
        other = blob_path(replace(TASK, id="u"))
        assert PATH.split("/")[3] == other.split("/")[3]
        assert other != PATH

    def test_the_query_has_the_keys_in_order_and_encodes_colons_but_not_the_slash(self) -> None:
        form = r"se=2026-08-15T19%3A22%3A20Z&sp=r&sv=[\d-]+&sr=b&rsct=image/jpeg&sig=[A-Za-z0-9/%]+%3D"
        assert re.fullmatch(form, QUERY)

    def test_the_path_leads_back_to_the_task(self) -> None:
        assert blob_id_in(PATH) == blob_id("t")
        assert blob_id_in("/results/sample.jpeg") is None


class TestWhoMayRead:
    def test_the_signed_url_while_it_lives(self) -> None:
        assert verdict() is None
        assert verdict(now=READY_AT + 599.9) is None

    def test_nobody_from_the_second_it_names(self) -> None:
        refused = verdict(now=READY_AT + 600)
        assert refused is not None
        assert "Signed expiry time [Sat, 15 Aug 2026 19:22:20 GMT]" in refused
        assert "<Code>AuthenticationFailed</Code>" in refused

    @pytest.mark.parametrize(
        "query",
        [
            "",
            QUERY.replace("image/jpeg", "image%2Fjpeg"),
            QUERY.replace("%3A", ":"),
            QUERY.replace("2026-08-15", "2027-08-15"),
            QUERY + "&x=1",
            QUERY.removeprefix("se="),
            "&".join(sorted(QUERY.split("&"))),
        ],
        ids=["none", "slash encoded", "colons decoded", "date moved", "added to", "cut", "reordered"],
    )
    def test_nobody_with_a_query_that_was_touched(self, query: str) -> None:
        refused = verdict(query=query)
        assert refused is not None
        assert "Signature did not match" in refused

    def test_nobody_with_the_query_of_another_path(self) -> None:
        assert verdict(path=blob_path(replace(TASK, id="u"))) is not None


@pytest.mark.parametrize(
    ("model", "seconds"),
    [("flux-2-pro", 600), ("flux-dev", 600), ("flux-3-video", 3600), ("flux-tools/video-edit-v1", 3600)],
)
def test_lifetimes(model: str, seconds: int) -> None:
    assert lifetime_seconds(model) == seconds
