# SPDX-License-Identifier: Apache-2.0
"""An Airflow connection, read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import Connection

from airflow_provider_bfl.api.trust import Origin
from airflow_provider_bfl.exceptions import BflConfigError
from airflow_provider_bfl.hooks.settings import read_settings
from airflow_provider_bfl.transport.settings import DEFAULT_TIMEOUT_SECONDS, Settings

KEY = "bfl_CANARYkey0123456789abcdef"


def read(*, password: str | None = KEY, host: str | None = None, port: int | None = None, **extra: Any) -> Settings:
    return read_settings(
        Connection(
            conn_id="mine",
            conn_type="bfl",
            password=password,
            host=host,
            port=port,
            extra=json.dumps(extra) if extra else None,
        )
    )


def refused(**fields: Any) -> str:
    with pytest.raises(BflConfigError) as caught:
        read(**fields)
    assert KEY not in str(caught.value)
    return str(caught.value)


class TestAnEmptyForm:
    def test_is_bfl_itself(self) -> None:
        settings = read()
        assert (settings.api_key, settings.base_url) == (KEY, "https://api.bfl.ai")
        assert (settings.trust.region, settings.trust.base) == ("global", None)
        assert settings.timeout_seconds == DEFAULT_TIMEOUT_SECONDS
        assert KEY not in repr(settings)

    @pytest.mark.parametrize("empty", [None, "", []])
    def test_saves_nulls_that_mean_the_defaults(self, empty: object) -> None:
        nulls: dict[str, Any] = dict.fromkeys(("region", "timeout", "trusted_hosts", "delivery_hosts"), empty)
        assert read(host="", port=None, **nulls) == read()

    def test_of_an_older_airflow_may_hold_an_unknown_empty_field(self) -> None:
        assert read(something=None) == read()


class TestTheKey:
    @pytest.mark.parametrize("password", [None, "", "   ", "\n"])
    def test_that_is_missing_is_an_error_that_says_where_it_goes(self, password: str | None) -> None:
        assert "password field" in refused(password=password)

    def test_that_is_airflows_mask_is_recognised(self) -> None:
        assert "mask and not a key" in refused(password="***")

    @pytest.mark.parametrize(
        "password", [f"{KEY}\nx-evil: 1", f"{KEY} x", f"{KEY}\t1", f"{KEY}\x00", f"{KEY}é", f"{KEY}\u200b"]
    )
    def test_with_a_character_that_no_key_has_is_refused(self, password: str) -> None:
        assert "Copy it again" in refused(password=password)

    def test_is_taken_without_the_line_break_it_was_copied_with(self) -> None:
        assert read(password=f" {KEY}\r\n").api_key == KEY


class TestTheRegion:
    @pytest.mark.parametrize(
        ("region", "base_url"),
        [("global", "https://api.bfl.ai"), ("eu", "https://api.eu.bfl.ai"), ("us", "https://api.us.bfl.ai")],
    )
    def test_picks_the_host(self, region: str, base_url: str) -> None:
        settings = read(region=region)
        assert (settings.base_url, settings.trust.region) == (base_url, region)
        settings.trust.check_api_url(f"{settings.base_url}/v1/flux-2-pro")

    @pytest.mark.parametrize("region", ["EU", "europe", "eu ", 7, ["eu"], {"eu": 1}, True])
    def test_of_another_name_is_never_taken_for_global(self, region: object) -> None:
        assert "it can be global, eu, us" in refused(region=region)


class TestTheHost:
    @pytest.mark.parametrize(
        ("host", "port", "base_url", "base"),
        [
            ("gw.corp", None, "https://gw.corp", Origin("gw.corp", None, "https")),
            ("https://gw.corp/", None, "https://gw.corp", Origin("gw.corp", None, "https")),
            ("gw.corp:8443", None, "https://gw.corp:8443", Origin("gw.corp", 8443, "https")),
            ("gw.corp", 8443, "https://gw.corp:8443", Origin("gw.corp", 8443, "https")),
            ("GW.Corp", 8443, "https://GW.Corp:8443", Origin("gw.corp", 8443, "https")),
            ("gw.corp:8443", 9, "https://gw.corp:8443", Origin("gw.corp", 8443, "https")),
            ("https://gw.corp/bfl/", 8443, "https://gw.corp:8443/bfl", Origin("gw.corp", 8443, "https")),
            ("https://gw.corp/a/b", None, "https://gw.corp/a/b", Origin("gw.corp", None, "https")),
            ("http://127.0.0.1:8000", None, "http://127.0.0.1:8000", Origin("127.0.0.1", 8000, "http")),
            ("http://127.0.0.1", 8000, "http://127.0.0.1:8000", Origin("127.0.0.1", 8000, "http")),
            ("http://[::1]", 8000, "http://[::1]:8000", Origin("::1", 8000, "http")),
            ("http://localhost:8000", None, "http://localhost:8000", Origin("localhost", 8000, "http")),
            (" gw.corp ", None, "https://gw.corp", Origin("gw.corp", None, "https")),
        ],
    )
    def test_is_the_base_url_and_gets_the_key(self, host: str, port: int | None, base_url: str, base: Origin) -> None:
        settings = read(host=host, port=port)
        assert (settings.base_url, settings.trust.base) == (base_url, base)
        settings.trust.check_api_url(f"{settings.base_url}/v1/flux-2-pro")

    @pytest.mark.parametrize(
        "host",
        [
            "http://gw.corp",
            "http://10.0.0.7:8000",
            "http://localhost.evil.com",
            "http://127.0.0.1.evil.com",
            "http://0.0.0.0",
        ],
    )
    def test_of_another_machine_is_never_plain_http(self, host: str) -> None:
        assert "plain http to another machine" in refused(host=host)

    @pytest.mark.parametrize(
        "host",
        ["ftp://gw.corp", "user:pw@gw.corp", "gw corp", "gw.corp.", "gw_corp", "https://", "gw.corp?x=1", "gw.corp/?x",
         "gw.corp#x", "*.corp", "127.1", "gw.corp:0", "gw.corp:99999", "gw.corp:x", "https://[::1", "ünï.corp"],
    )  # fmt: skip
    def test_that_is_no_base_url_is_an_error_that_names_the_field(self, host: str) -> None:
        assert "host of the BFL connection 'mine'" in refused(host=host)

    @pytest.mark.parametrize("host", ["api.bfl.ai", "https://api.us.bfl.ai", "gateway.bfl.ai"])
    def test_of_bfl_outside_the_eu_gets_no_key_under_eu(self, host: str) -> None:
        from airflow_provider_bfl.exceptions import BflUntrustedUrlError

        settings = read(host=host, region="eu")
        with pytest.raises(BflUntrustedUrlError):
            settings.trust.check_api_url(f"{settings.base_url}/v1/flux-2-pro")


class TestTheTimeout:
    @pytest.mark.parametrize(("timeout", "seconds"), [(2, 2.0), (0.5, 0.5), ("45", 45.0), (" 7 ", 7.0), (3600, 3600.0)])
    def test_is_seconds(self, timeout: object, seconds: float) -> None:
        assert read(timeout=timeout).timeout_seconds == seconds

    @pytest.mark.parametrize("timeout", [0, -1, "soon", True, False, [5], {"s": 1}, "nan", "inf", 1e300, 3601])
    def test_that_is_none_is_an_error(self, timeout: object) -> None:
        assert "it is seconds" in refused(timeout=timeout)


class TestHostLists:
    @pytest.mark.parametrize("field", ["trusted_hosts", "delivery_hosts"])
    @pytest.mark.parametrize(
        "value",
        [["a.corp", "b.corp:8443"], "a.corp,b.corp:8443", " a.corp , b.corp:8443 ,", ["a.corp", "b.corp:8443", ""]],
    )
    def test_are_lists_or_text(self, field: str, value: Any) -> None:
        trust = read(**{field: value}).trust
        expected = frozenset({Origin("a.corp"), Origin("b.corp", 8443)})
        assert getattr(trust, field) == expected
        assert trust.trusted_hosts | trust.delivery_hosts == expected

    @pytest.mark.parametrize("field", ["trusted_hosts", "delivery_hosts"])
    @pytest.mark.parametrize("value", [7, {"a": 1}, [7], [["a.corp"]], True, "a corp", ["http://a.corp"], "*.bfl.ai"])
    def test_that_are_neither_are_an_error_that_names_the_field(self, field: str, value: object) -> None:
        assert field in refused(**{field: value})


class TestTheExtra:
    @pytest.mark.parametrize(
        ("name", "nearest"),
        [
            ("regoin", "region"),
            ("timeouts", "timeout"),
            ("trusted_host", "trusted_hosts"),
            ("deliveryhosts", "delivery_hosts"),
        ],
    )
    def test_with_a_misspelt_field_names_the_nearest(self, name: str, nearest: str) -> None:
        assert f"Did you mean {nearest!r}?" in refused(**{name: "eu"})

    def test_with_a_strange_field_names_all_there_are(self) -> None:
        assert "region, timeout, trusted_hosts, delivery_hosts" in refused(zzz="x")

    @pytest.mark.parametrize("text", ["{", "[]", '"eu"', "7"])
    def test_that_is_no_json_object_is_an_error(self, text: str) -> None:
        conn = Connection(conn_id="mine", conn_type="bfl", password=KEY)
        if hasattr(conn, "_extra"):
            conn._extra = text
        else:
            conn.extra = text
        with pytest.raises(BflConfigError, match="is not"):
            read_settings(conn)
