# SPDX-License-Identifier: Apache-2.0
"""
May this URL get the key? May it be downloaded?

A URL that arrives in an answer, through XCom or from a stored record is a claim, not a fact. It is judged here as
the string it is, before any request, and requested only as it was judged. The host rules are data, because BFL adds
and removes clusters; the shape rules are not, because in BFL's URLs a port, userinfo, a trailing dot or a non-ASCII
host is never right.

Hosts seen in BFL's answers: https://docs.bfl.ai/api_integration/integration_guidelines (``delivery.*.bfl.ai``) and
recorded traffic (``api.<region><n>.bfl.ai``, ``bfldelivery*.blob.core.windows.net``).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from airflow_provider_bfl.exceptions import BflConfigError, BflUntrustedUrlError

#: Hosts that get the key by default.
API_HOSTS = re.compile(r"api\.bfl\.ai|api\.(?:eu|us|isr)\d*\.bfl\.ai|gateway\.bfl\.ai")

#: Hosts that results are downloaded from by default.
DELIVERY_HOSTS = re.compile(
    r"delivery\.[a-z0-9-]+\.bfl\.ai|delivery-[a-z0-9-]+\.bfl\.ai|bfldelivery[a-z0-9]*\.blob\.core\.windows\.net"
)

#: The ones of them inside the EU; with ``region: eu`` everything else is outside, the global host too.
EU_API_HOSTS = re.compile(r"api\.eu\d*\.bfl\.ai")
EU_DELIVERY_HOSTS = re.compile(
    r"delivery\.eu\d*\.bfl\.ai|delivery-eu\d*\.bfl\.ai|bfldelivery[a-z0-9]*eu\d+\.blob\.core\.windows\.net"
)

#: BFL's own names say where they are, so a configured one is still judged by its region.
_BFL_OWNED = re.compile(r"(?:.*\.)?bfl\.(?:ai|ml)|bfldelivery[a-z0-9]*\.blob\.core\.windows\.net")

REGION_HOSTS = {"global": "api.bfl.ai", "eu": "api.eu.bfl.ai", "us": "api.us.bfl.ai"}

# What RFC 3986 allows in a URL, less the fragment, which is no part of a request. Parsers disagree about everything
# else (backslash, blanks, control characters), and a URL two parsers read differently can be judged as one host and
# requested from another. For the same reason it is taken apart here by the plainest rule and not by a parser.
_URL_CHARACTERS = re.compile(r"[A-Za-z0-9\-._~:/?\[\]@!$&'()*+,;=%]+")
_URL = re.compile(r"(?P<scheme>https?)://(?P<authority>[^/?]*)(?P<target>/.*)?", re.IGNORECASE)
_AUTHORITY = re.compile(r"(?P<host>[^:\[\]]+|\[[0-9a-f.]*:[0-9a-f:.]*\])(?::(?P<port>[1-9][0-9]{0,4}))?")
_HOST_NAME = re.compile(r"(?=.{1,253}\Z)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
_LOOPBACK_NAME = "localhost"
_DEFAULT_PORTS = {"https": 443, "http": 80}
_MAX_PORT = 65535
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_MAX_SHOWN_CHARS = 200


@dataclass(frozen=True, order=True)
class Origin:
    """A host the user vouched for. ``scheme`` or ``port`` None: https on its own port."""

    host: str
    port: int | None = None
    scheme: str | None = None

    @property
    def is_loopback(self) -> bool:
        """Whether the host is this machine: the only place where plain http may go."""
        return is_loopback(self.host)


@dataclass(frozen=True)
class Trust:
    """
    The judgement of one connection.

    :param region: ``global``, ``eu`` or ``us``; ``eu`` fails closed.
    :param base: The connection's explicit ``host``, or None for BFL's own. It gets the key.
    :param trusted_hosts: Further origins that get the key.
    :param delivery_hosts: Further origins results may be downloaded from.
    """

    region: str = "global"
    base: Origin | None = None
    trusted_hosts: frozenset[Origin] = field(default_factory=frozenset)
    delivery_hosts: frozenset[Origin] = field(default_factory=frozenset)

    def check_api_url(self, url: object) -> str:
        """
        Return ``url`` unchanged if it may get the key.

        :raises BflUntrustedUrlError: with the reason and, for a plausible host, the setting that would allow it.
        """
        configured = self.trusted_hosts | ({self.base} if self.base else set())
        inside = EU_API_HOSTS if self.region == "eu" else API_HOSTS
        return self._check(url, inside, configured, purpose="get the API key", setting="trusted_hosts")

    def check_delivery_url(self, url: object) -> str:
        """
        Return ``url`` unchanged if the result may be downloaded from it; the key never goes there.

        :raises BflUntrustedUrlError: as :meth:`check_api_url`.
        """
        inside = EU_DELIVERY_HOSTS if self.region == "eu" else DELIVERY_HOSTS
        return self._check(url, inside, self.delivery_hosts, purpose="be downloaded from", setting="delivery_hosts")

    def may_be_private(self, url: str) -> bool:
        """Whether the host of a checked delivery URL was configured, so that it may be in the user's own network."""
        return self._is_configured(parse_origin(url), self.delivery_hosts)

    def _check(
        self,
        url: object,
        inside: re.Pattern[str],
        configured: Iterable[Origin],
        *,
        purpose: str,
        setting: str,
    ) -> str:
        if not isinstance(url, str):
            raise BflUntrustedUrlError(f"A {type(url).__name__} is not a URL, so it may not {purpose}.")
        try:
            origin = parse_origin(url)
        except ValueError as error:
            message = f"{_shown(url)!r} may not {purpose}: {error}. Nothing was sent to it."
            raise BflUntrustedUrlError(message) from None
        if self._is_configured(origin, configured):
            return url
        if origin.scheme == "https" and origin.port is None and inside.fullmatch(origin.host):
            return url
        raise BflUntrustedUrlError(self._refusal(origin, purpose, setting))

    def _is_configured(self, origin: Origin, configured: Iterable[Origin]) -> bool:
        if self.region == "eu" and _BFL_OWNED.fullmatch(origin.host):
            return False
        return any(_matches(origin, allowed, allow_http=self.base is not None) for allowed in configured)

    def _refusal(self, origin: Origin, purpose: str, setting: str) -> str:
        if origin.scheme == "http":
            return f"http://{origin.host} may not {purpose}: only https is trusted. Nothing was sent to it."
        if self.region == "eu" and (API_HOSTS.fullmatch(origin.host) or DELIVERY_HOSTS.fullmatch(origin.host)):
            return (
                f"The host {origin.host} may not {purpose}: it is outside the EU and the connection's region is eu. "
                "Nothing was sent to it."
            )
        return (
            f"The host {origin.host} may not {purpose}: it is not one of BFL's. Nothing was sent to it. "
            f"If it is yours (a gateway, say), add it to {setting} in the connection's extra."
        )


def parse_origin(url: str) -> Origin:
    """
    Return the origin of an absolute http(s) URL, or raise ``ValueError`` with the reason it is none.

    The result is exact: lower-case ASCII host; port None when it is the scheme's own and not written.
    """
    if not _URL_CHARACTERS.fullmatch(url):
        raise ValueError("it contains a character that no URL may contain unescaped")
    parts = _URL.fullmatch(url)
    if not parts:
        raise ValueError("it is not an absolute http or https URL with a path after the host")
    authority = parts["authority"].lower()
    if not authority:
        raise ValueError("it has no host")
    if "@" in authority:
        raise ValueError("it carries a user name or password")
    split = _AUTHORITY.fullmatch(authority)
    if not split or int(split["port"] or 1) > _MAX_PORT:
        raise ValueError("its host or port is malformed")
    host = split["host"].strip("[]")
    if host.endswith("."):
        raise ValueError("its host ends with a dot")
    if not _HOST_NAME.fullmatch(host) and not _is_plain_ip(host):
        raise ValueError("its host is not a plain name")
    return Origin(host, int(split["port"]) if split["port"] else None, parts["scheme"].lower())


def _is_plain_ip(host: str) -> bool:
    # Only the canonical spelling: 127.1, 0x7f.1 and 2130706433 are left to nobody's guess.
    try:
        return str(ipaddress.ip_address(host)) == host
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine, by name or by canonical address."""
    if host == _LOOPBACK_NAME:
        return True
    return _is_plain_ip(host) and ipaddress.ip_address(host).is_loopback


def is_public_address(address: str) -> bool:
    """
    Whether an IP address, as a resolver or a socket gives it, is one of the public internet.

    An IPv6 address that stands for an IPv4 one (mapped, 6to4, NAT64) is judged by the latter.
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(ip.packed[-4:])
        ip = inner or ip
    return ip.is_global and not ip.is_multicast


def private_address(host: str, address: str) -> BflUntrustedUrlError:
    """Return the error of a delivery host whose name leads to an address that is not public."""
    return BflUntrustedUrlError(
        f"The host {host} may not be downloaded from: its name leads to {address}, which is not a "
        "public address. Nothing was sent to it. If it is yours, add the host to delivery_hosts in the connection's "
        "extra."
    )


def _matches(origin: Origin, allowed: Origin, *, allow_http: bool) -> bool:
    if origin.host != allowed.host:
        return False
    if origin.scheme == "http" and not (allow_http and origin.is_loopback):
        return False
    if allowed.scheme is not None and origin.scheme != allowed.scheme:
        return False
    default = _DEFAULT_PORTS[origin.scheme or "https"]
    return (origin.port or default) == (allowed.port or default)


def configured_origin(entry: str, *, setting: str) -> Origin:
    """
    Read one configured host: ``host``, ``host:port`` or an origin (``https://host[:port]``).

    :param setting: The connection field it comes from, for the message.
    :raises BflConfigError: it is none of these, or plain http to another machine.
    """
    text = entry.strip().rstrip("/").lower()
    try:
        origin = parse_origin(text if "://" in text else f"https://{text}")
    except ValueError as error:
        raise BflConfigError(f"{setting} of the BFL connection: {entry!r} is not a host: {error}.") from None
    has_path = "/" in text.split("://", 1)[-1]
    if has_path:
        raise BflConfigError(f"{setting} of the BFL connection: {entry!r} has a path; give the host alone.")
    if "://" not in text:
        return Origin(origin.host, origin.port)
    if origin.scheme == "http" and not origin.is_loopback:
        raise BflConfigError(
            f"{setting} of the BFL connection: {entry!r} is plain http to another machine, which would show the "
            "key or the result to everyone on the way. Use https."
        )
    return origin


def _shown(url: str) -> str:
    # Nothing that may be a credential: neither the query nor what stands before an "@".
    address = re.sub(r"//.*@", "//…@", url.partition("?")[0], flags=re.DOTALL)
    return address if len(address) <= _MAX_SHOWN_CHARS else address[:_MAX_SHOWN_CHARS] + "…"
