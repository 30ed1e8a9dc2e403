# SPDX-License-Identifier: Apache-2.0
"""What sync and async decide alike around one exchange."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_bfl.api.messages import HttpRequest
from airflow_provider_bfl.api.trust import Trust
from airflow_provider_bfl.exceptions import BflDownloadError, BflError, BflResultExpiredError, BflResultTooLargeError
from airflow_provider_bfl.transport.exchange import Receiver, api_headers, clean_reply, describe, next_hop
from airflow_provider_bfl.transport.settings import MAX_DOWNLOAD_HOPS, Settings

KEY = "bfl_CANARYkey0123456789abcdef"
SETTINGS = Settings(api_key=KEY, base_url="https://api.bfl.ai", trust=Trust())
URL = "https://delivery.eu.bfl.ai/a/b.png?sig=CANARY"


class TestHeaders:
    def test_a_body_is_declared_as_json(self) -> None:
        assert api_headers(SETTINGS, HttpRequest("POST", "u", b"{}"))["content-type"] == "application/json"
        assert "content-type" not in api_headers(SETTINGS, HttpRequest("GET", "u"))


class TestACleanReply:
    def test_has_lower_case_headers_and_no_key_anywhere(self) -> None:
        reply = clean_reply(SETTINGS, 400, {"X-Echo": f"a{KEY}b", "Retry-After": "1"}, f"<{KEY}><{KEY}>".encode())
        assert (reply.headers, reply.body) == ({"x-echo": "a***b", "retry-after": "1"}, b"<***><***>")


class TestDescribe:
    def test_uses_the_type_and_the_systems_own_words(self) -> None:
        inner = ConnectionRefusedError(111, "Connection refused")
        outer = ValueError(f"for {URL}")
        outer.__cause__ = inner
        assert describe(outer) == "ConnectionRefusedError: Connection refused"

    def test_never_uses_a_librarys_message(self) -> None:
        assert describe(ValueError(f"for {URL}")) == "ValueError"

    def test_survives_a_reason_that_is_no_error(self) -> None:
        assert describe(UnicodeDecodeError("utf-8", b"x", 0, 1, f"for {URL}")) == "UnicodeDecodeError"


class TestTheNextHop:
    def test_there_is_none_for_a_result(self) -> None:
        assert next_hop(200, None, url=URL, hop=0) is None

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    @pytest.mark.parametrize(
        ("location", "target"),
        [
            ("https://delivery.us.bfl.ai/c?sig=%2f", "https://delivery.us.bfl.ai/c?sig=%2f"),
            ("/c?x=%2b", "https://delivery.eu.bfl.ai/c?x=%2b"),
            ("c.png", "https://delivery.eu.bfl.ai/a/c.png"),
            ("//evil.com/c", "https://evil.com/c"),
            ("http://evil.com/c", "http://evil.com/c"),
        ],
    )
    def test_is_where_the_answer_points(self, status: int, location: str, target: str) -> None:
        assert next_hop(status, location, url=URL, hop=MAX_DOWNLOAD_HOPS - 1) == target

    def test_there_is_no_fourth(self) -> None:
        with pytest.raises(BflDownloadError, match="more than 3 times"):
            next_hop(302, "/c", url=URL, hop=MAX_DOWNLOAD_HOPS)

    @pytest.mark.parametrize("status", [403, 410])
    def test_an_expired_url_is_the_servers_word(self, status: int) -> None:
        with pytest.raises(BflResultExpiredError):
            next_hop(status, None, url=URL, hop=0)

    @settings(deadline=None)
    @given(status=st.integers(100, 999), location=st.none() | st.text(), hop=st.integers(0, 4))
    def test_any_answer_is_a_hop_a_result_or_a_typed_error(self, status: int, location: str | None, hop: int) -> None:
        try:
            target = next_hop(status, location, url=URL, hop=hop)
        except BflError:
            assert status != 200
        else:
            assert (target is None) == (status == 200)


class TestReceiving:
    def received(self, headers: dict[str, str], *chunks: bytes, max_bytes: int = 100) -> int:
        receiver = Receiver(io.BytesIO(), max_bytes=max_bytes)
        receiver.start(headers)
        for chunk in chunks:
            receiver.write(chunk)
        return receiver.finish().size

    def test_a_whole_body_is_counted(self) -> None:
        assert self.received({"Content-Length": "6"}, b"abc", b"", b"def") == 6

    @pytest.mark.parametrize("chunks", [(b"abcde",), (b"abcdefg",), ()])
    def test_another_length_than_declared_is_an_error(self, chunks: tuple[bytes, ...]) -> None:
        with pytest.raises(BflDownloadError, match="of 6 bytes arrived"):
            self.received({"Content-Length": "6"}, *chunks)

    def test_the_cap_is_an_error_and_not_a_truncation(self) -> None:
        assert self.received({}, b"x" * 100) == 100
        with pytest.raises(BflResultTooLargeError, match="more than the 100 bytes"):
            self.received({}, b"x" * 99, b"xx")

    @pytest.mark.parametrize("length", ["", "many", "-1", "1.0", "0x10", "²", "9" * 30])
    def test_a_length_that_is_no_number_declares_nothing(self, length: str) -> None:
        assert self.received({"content-length": length}, b"abc") == 3
