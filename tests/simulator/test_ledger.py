# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from airflow_provider_bfl.simulator.accounts import fingerprint
from airflow_provider_bfl.simulator.ledger import blot, find_leaks

KEY = "bfl_abc"


def leaks(role: str, *, path: str = "/", headers: dict[str, str] | None = None, body: str = "") -> tuple[str, ...]:
    return find_leaks(role=role, path=path, headers=headers or {}, body=body, keys={KEY})


class TestWhereAKeyMayStand:
    @pytest.mark.parametrize("role", ["submit", "poll"])
    def test_in_x_key_at_an_api_host(self, role: str) -> None:
        assert leaks(role, headers={"x-key": KEY, "accept": "application/json"}) == ()

    @pytest.mark.parametrize("role", ["delivery", "canary"])
    def test_nowhere_else(self, role: str) -> None:
        assert leaks(role, headers={"x-key": "anything"}) == ("header",)

    @pytest.mark.parametrize("role", ["submit", "poll", "delivery", "canary"])
    def test_in_no_url_other_header_or_body(self, role: str) -> None:
        assert leaks(role, path=f"/?k={KEY}") == ("url",)
        assert leaks(role, headers={"Referer": f"x{KEY}"}) == ("header",)
        assert leaks(role, headers={"Authorization": f"Bearer {KEY}"}) == ("authorization",)
        assert leaks(role, body=KEY) == ("body",)

    def test_a_key_never_seen_before_is_known_by_its_form(self) -> None:
        assert leaks("delivery", path="/?k=bfl_0123456789abcdef") == ("url",)

    def test_a_name_with_bfl_in_it_is_no_key(self) -> None:
        assert leaks("delivery", headers={"User-Agent": "airflow-provider-bfl/1.0 (bfl_default)"}) == ()

    def test_foreign_credentials_are_flagged_at_delivery_but_not_at_the_api(self) -> None:
        gateway = {"Authorization": "Basic gateway"}
        assert leaks("delivery", headers=gateway) == ("authorization",)
        assert leaks("submit", headers=gateway) == ()


class TestBlotting:
    def test_keys_become_fingerprints(self) -> None:
        assert blot(f"/?k={KEY}", {KEY}) == f"/?k=<key {fingerprint(KEY)}>"

    def test_signatures_go_and_the_rest_stays(self) -> None:
        assert blot("/a?se=1&sig=AbC%3D&x=2", ()) == "/a?se=1&sig=…&x=2"
