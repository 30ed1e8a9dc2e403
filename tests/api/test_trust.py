# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: RUF001 - letters that look like others are what is tested
"""Which URL may get the key, and which may be downloaded."""

from __future__ import annotations

from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_provider_bfl.api.trust import (
    REGION_HOSTS,
    Origin,
    Trust,
    configured_origin,
    is_loopback,
    parse_origin,
)
from airflow_provider_bfl.exceptions import BflConfigError, BflUntrustedUrlError

#: Written with {h} where a trusted host stands: api.bfl.ai for the key, delivery.eu.bfl.ai for a download.
HOSTILE_SHAPES: dict[str, tuple[str, ...]] = {
    "user name or password": (
        "https://{h}@evil.com/",
        "https://{h}:443@evil.com/",
        "https://evil.com@{h}/",
        "https://user:password@{h}/",
        "https://:@{h}/",
        "https://@{h}/",
        "https://{h}%40evil.com/",
        "https://{h}@evil.com@{h}/",
        "https://a@b@{h}/",
        "https://{h};@evil.com/",
    ),
    "port": (
        "https://{h}:443/",
        "https://{h}:80/",
        "https://{h}:8443/",
        "https://{h}:/",
        "https://{h}:0/",
        "https://{h}:00443/",
        "https://{h}:65536/",
        "https://{h}:443443/",
        "https://{h}:-1/",
        "https://{h}:+443/",
        "https://{h}:4_43/",
        "https://{h}:abc/",
        "https://{h}:443:80/",
        "https://{h}: 443/",
        "https://{h}:٤٤٣/",
        "https://{h}::443/",
    ),
    "dots": (
        "https://{h}./",
        "https://{h}../",
        "https://.{h}/",
        "https://..{h}/",
        "https://{h}.:443/",
        "https://{h}%2e/",
        "https://{h}。/",
        "https://api..bfl.ai/",
        "https://delivery..bfl.ai/",
        "https://./",
        "https://../",
    ),
    "other alphabets": (
        "https://аpi.bfl.ai/",
        "https://dеlivery.eu.bfl.ai/",
        "https://api.bfl.аi/",
        "https://api。bfl。ai/",
        "https://delivery｡eu｡bfl｡ai/",
        "https://ａｐｉ.ｂｆｌ.ａｉ/",
        "https://xn--pi-7kc.bfl.ai/",
        "https://api.xn--bfl-1na.ai/",
        "https://api.bﬂ.ai/",
        "https://api.bfl.ai\u200b/",
        "https://\u202eia.lfb.ipa/",
        "https://api\u00ad.bfl.ai/",
        "https://{h}／.evil.com/",
        "https://{h}＃.evil.com/",
        "https://{h}？.evil.com/",
        "https://evil.com／{h}/",
        "https://{h}\u2044evil.com/",
        "https://Ⓐpi.bfl.ai/",
        "https://apı.bfl.ai/",
        "https://{h}\ud800/",
    ),
    "backslash": (
        "https://{h}\\@evil.com/",
        "https://{h}\\.evil.com/",
        "https://evil.com\\@{h}/",
        "https://evil.com\\.{h}/",
        "https:\\\\{h}/",
        "https:/\\{h}/",
        "https://\\{h}/",
        "https://{h}\\",
        "https://{h}/a\\b",
    ),
    "blanks and control characters": (
        " https://{h}/",
        "https://{h}/ ",
        "https://{h} /",
        "https:// {h}/",
        "\thttps://{h}/",
        "https://{h}\t/",
        "https://{h}\t.evil.com/",
        "https://{h}\n/",
        "https://{h}/\n",
        "ht\ntps://{h}/",
        "https://{h}\r\nHost: evil.com/",
        "https://{h}/\r\nx-key: 1",
        "https://{h}\x00.evil.com/",
        "https://{h}\x00/",
        "https://{h}/\x00",
        "https://{h}\x0b/",
        "https://{h}\x7f/",
        "https://{h}\xa0/",
        "https://{h}\u2028/",
        "\ufeffhttps://{h}/",
    ),
    "percent-encoded host": (
        "https://%61pi.bfl.ai/",
        "https://api%2ebfl%2eai/",
        "https://delivery%2eeu%2ebfl%2eai/",
        "https://{h}%2f.evil.com/",
        "https://{h}%2F@evil.com/",
        "https://{h}%23.evil.com/",
        "https://{h}%3f.evil.com/",
        "https://{h}%00.evil.com/",
        "https://{h}%0d%0a/",
        "https://{h}%3a443/",
        "https://%5b::1%5d/",
        "https://%/",
    ),
    "addresses": (
        "https://127.0.0.1/",
        "https://127.1/",
        "https://0/",
        "https://0.0.0.0/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0x7f.0.0.1/",
        "https://0177.0.0.1/",
        "https://017700000001/",
        "https://127.0.0.1./",
        "https://127.000.000.001/",
        "https://localhost/",
        "https://localhost.localdomain/",
        "https://169.254.169.254/",
        "https://169.254.169.254/latest/meta-data/",
        "https://10.0.0.1/",
        "https://[::1]/",
        "https://[::]/",
        "https://[0:0:0:0:0:0:0:1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:7f00:1]/",
        "https://[::ffff:169.254.169.254]/",
        "https://[64:ff9b::7f00:1]/",
        "https://[fe80::1%25eth0]/",
        "https://[fe80::1%eth0]/",
        "https://[fd00:ec2::254]/",
        "https://[::1]:443/",
        "https://::1/",
        "https://[::1/",
        "https://::1]/",
        "https://[]/",
        "https://[{h}]/",
        "https://[v1.{h}]/",
        "https://[::1].{h}/",
        "https://[::1]{h}/",
        "https://{h}[::1]/",
        "https://{h}.[::1]/",
        "https://[::1]@{h}/",
        "https://[127.0.0.1]/",
    ),
    "nearly the name": (
        "https://{h}.evil.com/",
        "https://{h}-evil.com/",
        "https://{h}evil.com/",
        "https://evil-{h}/",
        "https://evil.{h}/",
        "https://evil{h}/",
        "https://evil-bfl.ai/",
        "https://evilbfl.ai/",
        "https://api-bfl.ai/",
        "https://apixbfl.ai/",
        "https://apixbflxai/",
        "https://delivery.euxbfl.ai/",
        "https://deliveryxeu.bfl.ai/",
        "https://api.bfl.ai.ai/",
        "https://api.bfl.com/",
        "https://api.bfl.a/",
        "https://api.bfl.aii/",
        "https://bfl.ai/",
        "https://www.bfl.ai/",
        "https://docs.bfl.ai/",
        "https://api.evil.bfl.ai/",
        "https://api.eu-1.bfl.ai/",
        "https://api.eu1x.bfl.ai/",
        "https://api.eu1.eu2.bfl.ai/",
        "https://delivery.bfl.ai/",
        "https://delivery-.bfl.ai/",
        "https://delivery.eu.x.bfl.ai/",
        "https://delivery_eu.bfl.ai/",
        "https://xbfldelivery.blob.core.windows.net/",
        "https://bfl.blob.core.windows.net/",
        "https://bfldelivery.evil.blob.core.windows.net/",
        "https://bfldelivery-x.blob.core.windows.net/",
        "https://bfldeliveryprodeu4.blob.core.windows.net.evil.com/",
        "https://bfldeliveryprodeu4.blobxcore.windows.net/",
        "https://bfldeliveryprodeu4.file.core.windows.net/",
        "https://evil.com/{h}",
        "https://evil.com/https://{h}/",
        "https://evil.com?{h}",
        "https://evil.com?https://{h}/",
        "https://evil.com#{h}",
        "https://evil.com/#@{h}/",
        "https://-{h}/",
        "https://api.bfl.ai-/",
        "https://" + "a" * 64 + ".bfl.ai/",
        "https://" + "a." * 200 + "bfl.ai/",
    ),
    "scheme": (
        "http://{h}/",
        "HTTP://{h}/",
        "ftp://{h}/",
        "file://{h}/etc/passwd",
        "ws://{h}/",
        "wss://{h}/",
        "httpss://{h}/",
        "https+unix://{h}/",
        "javascript://{h}/%0aalert(1)",
        "data:text/html,{h}",
        "blob:https://{h}/",
        "view-source:https://{h}/",
        "jar:https://{h}/!/",
        "url:https://{h}/",
        "https",
        "https:",
        "://{h}/",
    ),
    "slashes": (
        "//{h}/",
        "///{h}/",
        "/{h}/",
        "{h}",
        "{h}/v1/get_result",
        "{h}:443/",
        "https:{h}/",
        "https:/{h}/",
        "https:///{h}/",
        "https:////{h}/",
        "https://",
        "https:///",
        "https:///path",
        "https://?x",
        "https:?//{h}/",
        "https:#//{h}/",
    ),
    "query or fragment where the host ends": (
        "https://{h}?@evil.com/",
        "https://{h}#@evil.com/",
        "https://{h}?",
        "https://{h}#",
        "https://{h}?x=1",
        "https://{h}#/v1/get_result",
        "https://{h}#.evil.com/",
        "https://{h}/v1#fragment",
        "https://{h}/#",
        "https://?{h}/",
        "https://#{h}/",
        "https://{h},evil.com/",
        "https://{h};evil.com/",
        "https://{h}&evil.com/",
        "https://{h}=evil.com/",
        "https://{h}!evil.com/",
        "https://{h}*/",
        "https://*.bfl.ai/",
        "https://${{h}}/",
    ),
    "characters no URL has": (
        'https://{h}/"',
        "https://{h}/<script>",
        "https://{h}/{{x}}",
        "https://{h}/a|b",
        "https://{h}/^",
        "https://{h}/`",
        "https://{h}/ü",
        "https://{h}/\U0001f98a",
        "",
        " ",
    ),
}
HOSTILE = [
    pytest.param(shape, id=f"{trick}-{number}")
    for trick, shapes in HOSTILE_SHAPES.items()
    for number, shape in enumerate(shapes)
]
NO_TEXT: tuple[Any, ...] = (
    None,
    7,
    True,
    b"https://api.bfl.ai/",
    ["https://api.bfl.ai/"],
    {},
    object(),
    urlsplit("https://api.bfl.ai/"),
)

LOOPBACK = Origin("127.0.0.1", 8000, "http")


def refused_for_the_key(trust: Trust, url: object) -> str:
    with pytest.raises(BflUntrustedUrlError) as caught:
        trust.check_api_url(url)
    return str(caught.value)


def refused_for_download(trust: Trust, url: object) -> str:
    with pytest.raises(BflUntrustedUrlError) as caught:
        trust.check_delivery_url(url)
    return str(caught.value)


class TestHostileUrls:
    def test_there_are_enough_of_them(self) -> None:
        assert len(HOSTILE) >= 150

    @pytest.mark.parametrize("shape", HOSTILE)
    @pytest.mark.parametrize("region", ["global", "eu", "us"])
    def test_get_no_key_and_are_not_downloaded(self, shape: str, region: str) -> None:
        trust = Trust(region=region)
        key_url = shape.replace("{h}", "api.eu.bfl.ai")
        download_url = shape.replace("{h}", "delivery.eu.bfl.ai")
        assert "Nothing was sent to it" in refused_for_the_key(trust, key_url)
        assert "Nothing was sent to it" in refused_for_download(trust, download_url)

    @pytest.mark.parametrize("shape", [each for each in HOSTILE if "api." not in str(each.values[0])])
    def test_are_refused_beside_a_configured_loopback_too(self, shape: str) -> None:
        trust = Trust(base=LOOPBACK, delivery_hosts=frozenset({LOOPBACK}))
        refused_for_the_key(trust, shape.replace("{h}", "api.bfl.ai"))
        refused_for_download(trust, shape.replace("{h}", "delivery.eu.bfl.ai"))

    @pytest.mark.parametrize("value", NO_TEXT, ids=lambda value: type(value).__name__)
    def test_what_is_no_text_is_no_url(self, value: object) -> None:
        assert "is not a URL" in refused_for_the_key(Trust(), value)
        assert "is not a URL" in refused_for_download(Trust(), value)

    @pytest.mark.parametrize(
        "url",
        [
            "https://evil.com/ x?sig=CANARY",
            "https://evil.com\\?sig=CANARY",
            "ftp://evil.com/?sig=CANARY",
            "//evil.com/?sig=CANARY&u=https://a.b/?CANARY",
            "https://user:CANARY@api.bfl.ai/",
            "https://user:CANARY@x/@api.bfl.ai/",
            "https://evil.com/?sig=CANARY",
            "https://evil.com\n/?a\nsig=CANARY",
        ],
    )
    def test_the_refusal_shows_neither_signature_nor_password(self, url: str) -> None:
        assert "CANARY" not in refused_for_the_key(Trust(), url)
        assert "CANARY" not in refused_for_download(Trust(), url)

    def test_the_refusal_is_short_and_of_one_line(self) -> None:
        message = refused_for_the_key(Trust(), "https://evil.com/\n\x1b[31m" + "x" * 10_000)
        assert len(message) < 600
        assert message.isprintable()

    def test_the_refusal_names_the_setting_that_would_allow_the_host(self) -> None:
        assert "trusted_hosts" in refused_for_the_key(Trust(), "https://gateway.corp/v1")
        assert "delivery_hosts" in refused_for_download(Trust(), "https://cdn.corp/x.png")


class TestBflsOwnHosts:
    @pytest.mark.parametrize(
        "url",
        [
            "https://api.bfl.ai/v1/flux-2-pro",
            "https://api.eu.bfl.ai/v1/get_result?id=x",
            *[f"https://api.eu{n}.bfl.ai/v1/get_result?id=x" for n in (1, 2, 3, 4, 17)],
            *[f"https://api.us{n}.bfl.ai/v1/get_result?id=x" for n in ("", 1, 4, 7)],
            "https://api.isr.bfl.ai/v1/get_result?id=x",
            "https://gateway.bfl.ai/v1/get_result?id=x",
            "https://API.BFL.AI/v1/get_result?id=x",
            "HTTPS://Api.Eu2.Bfl.Ai/v1/get_result?id=x",
            "https://api.bfl.ai",
            "https://api.bfl.ai/",
            "https://api.bfl.ai//v1/../x?a=[]&b='%zz",
        ],
    )
    def test_get_the_key_and_the_url_comes_back_unchanged(self, url: str) -> None:
        assert Trust().check_api_url(url) is url

    @pytest.mark.parametrize(
        "url",
        [
            "https://delivery.us4.bfl.ai/durable/2026081519/8021894b/9e/x/sample.jpeg?se=2026%3A20Z&rsct=image/jpeg&sig=a%2Fb",
            "https://delivery.eu2.bfl.ai/x.mp4",
            "https://delivery-us1.bfl.ai/results/x/sample.jpeg?se=1",
            "https://delivery-eu1.bfl.ai/results/x/sample.jpeg?se=1",
            "https://bfldeliveryprodeu4.blob.core.windows.net/results/x.jpeg?se=1",
            "https://bfldeliveryscus.blob.core.windows.net/results/x.jpeg?se=1",
            "https://Delivery.EU2.bfl.ai/x.png",
        ],
    )
    def test_are_downloaded_from_and_the_url_comes_back_unchanged(self, url: str) -> None:
        assert Trust().check_delivery_url(url) is url

    @pytest.mark.parametrize(
        "url",
        [
            "https://delivery.us4.bfl.ai/x",
            "https://delivery-eu1.bfl.ai/x",
            "https://bfldeliveryx.blob.core.windows.net/x",
        ],
    )
    def test_delivery_hosts_never_get_the_key(self, url: str) -> None:
        refused_for_the_key(Trust(), url)
        refused_for_the_key(Trust(delivery_hosts=frozenset({Origin(urlsplit(url).netloc)})), url)

    def test_api_hosts_are_not_downloaded_from(self) -> None:
        for url in ("https://api.bfl.ai/x", "https://api.eu1.bfl.ai/x", "https://gateway.bfl.ai/x"):
            refused_for_download(Trust(), url)

    @pytest.mark.parametrize("region", ["global", "eu", "us"])
    def test_each_region_may_be_submitted_to(self, region: str) -> None:
        Trust(region=region).check_api_url(f"https://{REGION_HOSTS[region]}/v1/flux-2-pro")


OUTSIDE_THE_EU = (
    "api.bfl.ai",
    "api.us.bfl.ai",
    "api.us7.bfl.ai",
    "api.isr.bfl.ai",
    "gateway.bfl.ai",
    "api.eux.bfl.ai",
    "api.euro.bfl.ai",
    "eu.bfl.ai",
)
DELIVERY_OUTSIDE_THE_EU = (
    "delivery.us4.bfl.ai",
    "delivery-us1.bfl.ai",
    "delivery.eu-us.bfl.ai",
    "delivery.europa.bfl.ai",
    "delivery.neu.bfl.ai",
    "bfldeliveryscus.blob.core.windows.net",
    "bfldeliveryprodus4.blob.core.windows.net",
    "bfldeliveryprodeu.blob.core.windows.net",
    "bfldeliveryprodeu4us.blob.core.windows.net",
)


class TestTheEuFailsClosed:
    @pytest.mark.parametrize("host", OUTSIDE_THE_EU)
    def test_no_key_leaves_it(self, host: str) -> None:
        refused_for_the_key(Trust(region="eu"), f"https://{host}/v1")

    @pytest.mark.parametrize("host", DELIVERY_OUTSIDE_THE_EU)
    def test_no_result_comes_from_outside(self, host: str) -> None:
        refused_for_download(Trust(region="eu"), f"https://{host}/x.png")

    @pytest.mark.parametrize("host", [*OUTSIDE_THE_EU, *DELIVERY_OUTSIDE_THE_EU])
    def test_a_host_of_bfls_outside_cannot_be_configured_in(self, host: str) -> None:
        allowed = frozenset({Origin(host), Origin(host, 443, "https")})
        trust = Trust(region="eu", base=Origin(host), trusted_hosts=allowed, delivery_hosts=allowed)
        refused_for_the_key(trust, f"https://{host}/v1")
        refused_for_download(trust, f"https://{host}/v1")

    def test_the_refusal_says_it_is_the_region(self) -> None:
        assert "outside the EU" in refused_for_the_key(Trust(region="eu"), "https://api.us7.bfl.ai/v1")
        assert "outside the EU" in refused_for_download(Trust(region="eu"), "https://delivery.us4.bfl.ai/x")

    @pytest.mark.parametrize("number", ["", 1, 2, 4, 12])
    def test_the_inside_is_allowed(self, number: object) -> None:
        trust = Trust(region="eu")
        trust.check_api_url(f"https://api.eu{number}.bfl.ai/v1")
        trust.check_delivery_url(f"https://delivery.eu{number}.bfl.ai/x")
        trust.check_delivery_url(f"https://delivery-eu{number}.bfl.ai/x")
        trust.check_delivery_url("https://bfldeliveryprodeu4.blob.core.windows.net/x")

    def test_a_gateway_of_the_users_own_is_their_word(self) -> None:
        own = frozenset({Origin("gateway.corp")})
        trust = Trust(region="eu", trusted_hosts=own, delivery_hosts=own)
        trust.check_api_url("https://gateway.corp/v1")
        trust.check_delivery_url("https://gateway.corp/v1")


class TestConfiguredHosts:
    @pytest.mark.parametrize(
        ("entry", "allowed", "refused"),
        [
            ("gw.corp", ["https://gw.corp/x", "https://GW.corp:443/x"], ["https://gw.corp:8443/x", "http://gw.corp/x"]),
            ("gw.corp:8443", ["https://gw.corp:8443/x"], ["https://gw.corp/x", "https://gw.corp:443/x"]),
            (
                "https://gw.corp",
                ["https://gw.corp/x", "https://gw.corp:443/"],
                ["http://gw.corp/x", "https://gw.corp:80/"],
            ),
            ("https://GW.corp:9/", ["https://gw.corp:9/x"], ["https://gw.corp/x", "http://gw.corp:9/x"]),
            ("10.0.0.7", ["https://10.0.0.7/x"], ["http://10.0.0.7/x", "https://10.0.0.70/", "https://010.0.0.7/"]),
            ("[2001:db8::1]:8443", ["https://[2001:db8::1]:8443/x"], ["https://[2001:db8::1]/x"]),
            (
                " gw.corp ",
                ["https://gw.corp/x"],
                ["https://x.gw.corp/", "https://gw.corp.evil.com/", "https://xgw.corp/"],
            ),
        ],
    )
    def test_are_matched_exactly(self, entry: str, allowed: list[str], refused: list[str]) -> None:
        origin = frozenset({configured_origin(entry, setting="trusted_hosts")})
        key, download = Trust(trusted_hosts=origin), Trust(delivery_hosts=origin)
        for url in allowed:
            assert key.check_api_url(url) is url
            assert download.check_delivery_url(url) is url
        for url in refused:
            refused_for_the_key(key, url)
            refused_for_download(download, url)

    def test_the_two_lists_are_kept_apart(self) -> None:
        own = frozenset({Origin("gw.corp")})
        refused_for_download(Trust(trusted_hosts=own), "https://gw.corp/x")
        refused_for_the_key(Trust(delivery_hosts=own), "https://gw.corp/x")

    @pytest.mark.parametrize(
        "entry",
        ["gw.corp/path", "https://gw.corp/v1", "gw.corp?x", "gw.corp#x", "user@gw.corp", "*.corp", "gw corp",
         "gw.corp.", "gw.corp:", "gw.corp:0", "gw.corp:99999", "ftp://gw.corp", "https://", "://gw", "gw_corp",
         "127.1", "http://gw.corp", "http://10.0.0.7", "gw.corp,x.corp", "::1", "gw.corp:80:80", "http://0.0.0.0",
         "http://127.0.0.1.evil.com"],
    )  # fmt: skip
    def test_a_wrong_entry_is_an_error_that_names_the_setting(self, entry: str) -> None:
        with pytest.raises(BflConfigError, match="delivery_hosts"):
            configured_origin(entry, setting="delivery_hosts")


class TestPlainHttp:
    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.8.9.10"])
    def test_goes_to_a_configured_port_of_this_machine_when_the_base_is_explicit(self, host: str) -> None:
        origin = configured_origin(f"http://{host}:8000", setting="host")
        trust = Trust(base=origin, delivery_hosts=frozenset({origin}))
        trust.check_api_url(f"http://{host}:8000/v1")
        trust.check_delivery_url(f"http://{host}:8000/x")
        for url in (f"http://{host}:8001/v1", f"http://{host}/v1", f"https://{host}:8000/v1"):
            refused_for_the_key(trust, url)
            refused_for_download(trust, url)

    def test_is_refused_without_an_explicit_base(self) -> None:
        own = frozenset({Origin("127.0.0.1", 8000), Origin("127.0.0.1", 8000, "http")})
        trust = Trust(trusted_hosts=own, delivery_hosts=own)
        assert "only https" in refused_for_the_key(trust, "http://127.0.0.1:8000/v1")
        refused_for_download(trust, "http://127.0.0.1:8000/v1")

    def test_never_leaves_this_machine_whatever_is_configured(self) -> None:
        own = frozenset({Origin("gw.corp", 80, "http"), Origin("gw.corp", 80)})
        trust = Trust(base=LOOPBACK, trusted_hosts=own, delivery_hosts=own)
        refused_for_the_key(trust, "http://gw.corp/v1")
        refused_for_download(trust, "http://gw.corp:80/v1")

    @pytest.mark.parametrize(
        ("host", "loopback"),
        [("localhost", True), ("127.0.0.1", True), ("127.255.0.1", True), ("::1", True), ("0.0.0.0", False),
         ("127.1", False), ("localhost.evil.com", False), ("127.0.0.1.evil.com", False), ("::", False),
         ("169.254.169.254", False), ("0:0:0:0:0:0:0:1", False)],
    )  # fmt: skip
    def test_this_machine_has_few_names(self, host: str, loopback: bool) -> None:
        assert is_loopback(host) is loopback


_HOSTS = st.sampled_from(
    [
        "api.bfl.ai",
        "API.eu2.BFL.ai",
        "delivery.eu.bfl.ai",
        "127.0.0.1",
        "[::1]",
        "localhost",
        "evil.com",
        "[::ffff:1.2.3.4]",
    ]
)
_GLUE = st.lists(
    st.sampled_from(
        [*"/\\?#@:;.[]%&= \t\n\0", "//", "%2f", "%40", "%00", "443", "://", "。", "／", "ﬂ", "\u200b", "..", "é"]
    )
    | st.text(alphabet="aA0-_~!$'()*+,", min_size=1, max_size=3),
    max_size=4,
).map("".join)
_URLS = st.builds(
    "{}{}{}{}{}{}{}".format,
    st.sampled_from(["https://", "http://", "HTTPS://", "https:", "https:/", "//", "https:///", "ftp://", ""]),
    _GLUE,
    _HOSTS,
    _GLUE,
    _HOSTS | st.just(""),
    _GLUE,
    st.sampled_from(["", "/", "/v1/get_result?id=a%2fb", "/x?sig=%2B+'[]", "//evil.com/", "?a/b"]),
)


class TestTheJudgedHostIsTheOneThatIsAsked:
    """Two HTTP libraries take a URL apart in their own ways; both must find what was judged."""

    @settings(deadline=None)
    @given(url=_URLS | st.text(max_size=40).map("https://api.bfl.ai".__add__) | st.text(max_size=60))
    @example("https://api.bfl.ai//evil.com/")
    @example("HTTPS://API.bfl.ai/x?a=%2f")
    @example("https://[::1]/")
    def test_by_both_clients(self, url: str) -> None:
        try:
            origin = parse_origin(url)
        except ValueError:
            return
        port = origin.port or {"https": 443, "http": 80}[origin.scheme or ""]
        assert _asked_by_requests(url) == (origin.scheme, origin.host, port)
        assert _asked_by_aiohttp(url) == (origin.scheme, origin.host, port)
        assert _asked_by_the_standard_library(url) == (origin.scheme, origin.host, port)

    @settings(deadline=None)
    @given(url=_URLS)
    def test_a_refusal_is_always_typed(self, url: str) -> None:
        for check in (Trust().check_api_url, Trust(region="eu").check_delivery_url):
            try:
                check(url)
            except BflUntrustedUrlError as error:
                str(error).encode()


def _asked_by_requests(url: str) -> tuple[str, str, int]:
    from requests import PreparedRequest
    from requests.adapters import HTTPAdapter

    prepared = PreparedRequest()
    prepared.prepare_method("GET")
    prepared.prepare_headers(None)
    prepared.url = url
    with closing(HTTPAdapter()) as adapter:
        pool = adapter.get_connection_with_tls_context(prepared, verify=True)
        assert pool.scheme is not None
        assert pool.port is not None
        return pool.scheme, pool.host.strip("[]").lower(), pool.port


def _asked_by_aiohttp(url: str) -> tuple[str, str, int]:
    from yarl import URL

    parsed = URL(url, encoded=True)
    assert parsed.raw_host is not None
    assert parsed.port is not None
    return parsed.scheme, parsed.raw_host.lower(), parsed.port


def _asked_by_the_standard_library(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or {"https": 443, "http": 80}[parts.scheme]
