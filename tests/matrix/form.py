# SPDX-License-Identifier: Apache-2.0
"""The connection form as this Airflow gives it to the browser: Airflow 3 as JSON, Airflow 2 as a page."""

from __future__ import annotations

import html
import json
import re
from dataclasses import dataclass
from typing import Any

import requests

from demo.local_airflow import LocalAirflow
from demo.surface import USER, surface


@dataclass(frozen=True)
class FormField:
    """
    One field that a person sees.

    :param choices: What the drop-down offers, or the only answers that are taken.
    """

    label: str
    masked: bool = False
    choices: tuple[str, ...] = ()
    help: str = ""


def shown_form(airflow: LocalAirflow) -> dict[str, FormField]:
    """Return the fields of the connection type ``bfl`` that are shown, by their names."""
    return _from_json(airflow) if surface().bearer else _from_page(airflow)


def _from_json(airflow: LocalAirflow) -> dict[str, FormField]:
    login = {"username": USER, "password": airflow.password}
    token = requests.post(f"{airflow.address}/auth/token", json=login, timeout=60).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    answer = requests.get(f"{airflow.address}/ui/connections/hook_meta", headers=headers, timeout=120)
    answer.raise_for_status()
    (form,) = [each for each in answer.json() if each["connection_type"] == "bfl"]
    standard = {
        name: FormField(field.get("title") or name, masked=name == "password")
        for name, field in (form["standard_fields"] or {}).items()
        if field is not None and not field.get("hidden")
    }
    return standard | {name: _extra(field) for name, field in (form["extra_fields"] or {}).items()}


def _extra(field: dict[str, Any]) -> FormField:
    schema = field.get("schema") or {}
    described = schema.get("description") or field.get("description") or ""
    return FormField(
        schema.get("title") or "",
        masked=schema.get("format") == "password",
        choices=tuple(each for each in schema.get("enum") or () if each is not None),
        help=described,
    )


def _from_page(airflow: LocalAirflow) -> dict[str, FormField]:
    with requests.Session() as session:
        login = session.get(f"{airflow.address}/login/", timeout=120).text
        token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', login)
        assert token, login[:2000]
        answers = {"csrf_token": token[1], "username": USER, "password": airflow.password}
        session.post(f"{airflow.address}/login/", data=answers, timeout=120).raise_for_status()
        page = session.get(f"{airflow.address}/connection/add", timeout=120).text
    found = re.search(r'<script id="field_behaviours"[^>]*>(.+?)</script>', page, re.DOTALL)
    assert found, "the page says what becomes of the fields of each type"
    behaviour = json.loads(html.unescape(found[1]))["bfl"]
    fields = {
        name: FormField(behaviour["relabeling"].get(name, name), masked='type="password"' in _input(page, name))
        for name in ("host", "schema", "login", "password", "port")
        if name not in behaviour["hidden_fields"]
    }
    return fields | {name: _extra_row(page, name) for name in re.findall(r'name="extra__bfl__(\w+)"', page)}


def _input(page: str, name: str) -> str:
    found = re.search(rf'<input[^>]*name="{name}"[^>]*>', page)
    assert found, name
    return found[0]


def _extra_row(page: str, name: str) -> FormField:
    row = page[page.index(f'name="extra__bfl__{name}"') :].partition("</tr>")[0]
    choices = tuple(re.findall(r'<option[^>]*value="([^"]*)"', row))
    texts = re.sub(r"<[^>]+>", " ", row.partition("</select>" if choices else ">")[2])
    return FormField(name, choices=choices, help=" ".join(html.unescape(texts).split()))
