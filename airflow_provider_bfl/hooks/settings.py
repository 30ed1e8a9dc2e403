# SPDX-License-Identifier: Apache-2.0
"""
An Airflow connection, read.

A half-filled or misspelt connection is an error with a sentence here, not a surprise at the first request.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_bfl.api.trust import REGION_HOSTS, Origin, Trust, configured_origin, parse_origin
from airflow_provider_bfl.connection_form import FIELDS, REGIONS
from airflow_provider_bfl.exceptions import BflConfigError
from airflow_provider_bfl.transport.settings import DEFAULT_TIMEOUT_SECONDS, Settings

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

_MAX_TIMEOUT_SECONDS = 3600.0

#: What Airflow shows instead of a secret; it ends up in the password when somebody copies a masked connection.
_MASKED_PASSWORD = "***"  # noqa: S105


def read_settings(conn: Connection) -> Settings:
    """
    Return what the connection says, with every default applied.

    :raises BflConfigError: the key is missing or masked, or a field cannot be used; the message names the field.
    """
    conn_id = conn.conn_id
    extra = _read_extra(conn_id, conn.extra)
    region = _read_region(conn_id, extra.get("region"))
    base_url, base = _read_base(conn, region)
    trust = Trust(
        region=region,
        base=base,
        trusted_hosts=_read_hosts(extra.get("trusted_hosts"), setting="trusted_hosts"),
        delivery_hosts=_read_hosts(extra.get("delivery_hosts"), setting="delivery_hosts"),
    )
    return Settings(
        api_key=_read_key(conn_id, conn.password),
        base_url=base_url,
        trust=trust,
        timeout_seconds=_read_timeout(conn_id, extra.get("timeout")),
    )


def _read_key(conn_id: str, password: str | None) -> str:
    key = (password or "").strip()
    if not key:
        raise BflConfigError(f"The BFL connection {conn_id!r} has no API key. Put it into the password field.")
    if key == _MASKED_PASSWORD:
        raise BflConfigError(
            f"The password of the BFL connection {conn_id!r} is '***', Airflow's mask and not a key. "
            "Put the API key itself into the password field."
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise BflConfigError(
            f"The API key of the BFL connection {conn_id!r} contains a character that no key has "
            "(a blank, a line break or a non-ASCII character). Copy it again."
        )
    return key


def _read_extra(conn_id: str, text: str | None) -> Mapping[str, Any]:
    try:
        extra = json.loads(text) if text else {}
    except ValueError:
        raise BflConfigError(f"The extra of the BFL connection {conn_id!r} is not JSON.") from None
    if not isinstance(extra, dict):
        raise BflConfigError(f"The extra of the BFL connection {conn_id!r} is not a JSON object.")
    known = [field.name for field in FIELDS]
    # The form stores null for what was left empty.
    given = {name: value for name, value in extra.items() if value not in (None, "", [])}
    for name in given:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {nearest[0]!r}?" if nearest else f" It has {', '.join(known)}."
            raise BflConfigError(f"The BFL connection {conn_id!r} has no extra field {name!r}.{hint}")
    return given


def _read_region(conn_id: str, region: Any) -> str:
    if region is None:
        return "global"
    if region not in REGIONS:
        raise BflConfigError(
            f"The region of the BFL connection {conn_id!r} is {region!r}; it can be {', '.join(REGIONS)}."
        )
    return str(region)


def _read_base(conn: Connection, region: str) -> tuple[str, Origin | None]:
    host = (conn.host or "").strip().rstrip("/")
    if not host:
        return f"https://{REGION_HOSTS[region]}", None
    url = host if "://" in host else f"https://{host}"
    try:
        origin = parse_origin(url)
        if conn.port and origin.port is None:
            scheme, _, rest = url.partition("://")
            authority, slash, path = rest.partition("/")
            url = f"{scheme}://{authority}:{conn.port}{slash}{path}"
            origin = parse_origin(url)
    except ValueError as error:
        raise BflConfigError(f"The host of the BFL connection {conn.conn_id!r} is not a base URL: {error}.") from None
    if "?" in url:
        raise BflConfigError(f"The host of the BFL connection {conn.conn_id!r} has a query; give the base URL alone.")
    if origin.scheme == "http" and not origin.is_loopback:
        raise BflConfigError(
            f"The host of the BFL connection {conn.conn_id!r} is plain http to another machine, which would show "
            "the API key to everyone on the way. Use https."
        )
    return url, origin


def _read_hosts(value: Any, *, setting: str) -> frozenset[Origin]:
    if value is None:
        return frozenset()
    entries = value.split(",") if isinstance(value, str) else value
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise BflConfigError(f"{setting} of the BFL connection must be a list of hosts or a comma-separated string.")
    return frozenset(configured_origin(entry, setting=setting) for entry in entries if entry.strip())


def _read_timeout(conn_id: str, value: Any) -> float:
    if value is None:
        return DEFAULT_TIMEOUT_SECONDS
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = 0.0
    if isinstance(value, bool) or not 0 < seconds <= _MAX_TIMEOUT_SECONDS:
        raise BflConfigError(
            f"The timeout of the BFL connection {conn_id!r} is {value!r}; it is seconds, a number above 0 and at most "
            f"{_MAX_TIMEOUT_SECONDS:g}."
        )
    return seconds
