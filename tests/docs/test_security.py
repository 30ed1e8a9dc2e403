# SPDX-License-Identifier: Apache-2.0
"""The host tables of ``docs/security.rst`` are the rules of ``api/trust.py``, and their examples are right."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_provider_bfl.api import trust
from airflow_provider_bfl.api.trust import Trust
from airflow_provider_bfl.exceptions import BflUntrustedUrlError

PAGE = (Path(__file__).parents[2] / "docs" / "security.rst").read_text()

TABLES = {
    "API hosts": (trust.API_HOSTS, Trust().check_api_url),
    "Delivery hosts": (trust.DELIVERY_HOSTS, Trust().check_delivery_url),
    "EU API hosts": (trust.EU_API_HOSTS, Trust(region="eu").check_api_url),
    "EU delivery hosts": (trust.EU_DELIVERY_HOSTS, Trust(region="eu").check_delivery_url),
}


def rows(title: str) -> list[tuple[str, str]]:
    """Return the pattern and the example of each row of a table."""
    _, _, after = PAGE.partition(f".. list-table:: {title}\n")
    table = re.split(r"\n(?=\S)", after)[0]
    return re.findall(r"\* - ``(.+)``\n     - ``(.+)``", table)


def alternatives(pattern: str) -> list[str]:
    """Split a regular expression at the bars outside parentheses."""
    found, depth = [""], 0
    for character in pattern:
        depth += (character == "(") - (character == ")")
        if character == "|" and depth == 0:
            found.append("")
        else:
            found[-1] += character
    return found


class TestTheHostTables:
    @pytest.mark.parametrize("title", TABLES)
    def test_hold_every_rule_and_no_other(self, title: str) -> None:
        pattern, _ = TABLES[title]
        assert sorted(pattern for pattern, _ in rows(title)) == sorted(alternatives(pattern.pattern))

    @pytest.mark.parametrize("title", TABLES)
    def test_have_examples_of_their_rules_that_are_accepted(self, title: str) -> None:
        check: Callable[[object], str] = TABLES[title][1]
        for pattern, example in rows(title):
            assert re.fullmatch(pattern, example)
            check(f"https://{example}/x")

    @pytest.mark.parametrize("title", ["API hosts", "Delivery hosts"])
    def test_are_two_lists(self, title: str) -> None:
        other = {"API hosts": Trust().check_delivery_url, "Delivery hosts": Trust().check_api_url}[title]
        for _, example in rows(title):
            with pytest.raises(BflUntrustedUrlError):
                other(f"https://{example}/x")
