# SPDX-License-Identifier: Apache-2.0
"""What both transports need to know to talk to one account."""

from __future__ import annotations

from dataclasses import dataclass, field

from airflow_provider_bfl import __version__
from airflow_provider_bfl.api.trust import Trust

USER_AGENT = f"airflow-provider-bfl/{__version__}"

KEY_HEADER = "x-key"

#: BFL answers a submit in about half a second and a poll faster.
DEFAULT_TIMEOUT_SECONDS = 30.0

#: An answer of the API is a few hundred bytes; anything near this is not BFL.
MAX_REPLY_BYTES = 1024 * 1024

#: No model returns more: the longest uhd video is some hundred megabytes.
MAX_RESULT_BYTES = 2 * 1024**3

CHUNK_BYTES = 256 * 1024
MAX_DOWNLOAD_HOPS = 3


@dataclass(frozen=True)
class Settings:
    """
    One account at one place.

    :param api_key: Kept out of the repr.
    :param base_url: Where requests are submitted, without a trailing slash.
    :param trust: Which hosts may get the key and which may be downloaded from.
    :param timeout_seconds: For connecting and for each wait for data.
    """

    api_key: str = field(repr=False)
    base_url: str
    trust: Trust
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS


@dataclass(frozen=True)
class Download:
    """
    A result as it was written to the sink.

    ``size`` (bytes) and ``sha256`` were measured; the rest is the delivery server's word or None: ``content_type``,
    ``ready_at`` (its Last-Modified, seconds since the epoch) and ``age_seconds`` (its Date less its Last-Modified,
    so both by the same clock).
    """

    size: int
    sha256: str
    content_type: str | None = None
    ready_at: float | None = None
    age_seconds: float | None = None
