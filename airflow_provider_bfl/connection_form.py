# SPDX-License-Identifier: Apache-2.0
"""
The BFL connection form, defined once.

Airflow 3.2 and later read the form from the provider metadata (``conn-fields``, ``ui-field-behaviour``), earlier
versions from two methods of the hook. Both shapes are built from ``FIELDS``, so they cannot drift apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

CONN_TYPE = "bfl"
HOOK_NAME = "Black Forest Labs"
REGIONS = ("global", "eu", "us")

HIDDEN_FIELDS = ("schema", "login", "port")
RELABELING = {"password": "API key", "host": "Base URL"}
PLACEHOLDERS = {"password": "bfl_…", "host": "leave empty for BFL's own hosts"}


@dataclass(frozen=True)
class FormField:
    """
    One field of the form, stored under ``name`` in the connection's extra.

    :param kind: Its JSON type.
    :param choices: The values it may have, shown as a drop-down; empty for free input.
    :param default: What the form starts with; an empty field means this too.
    """

    name: str
    label: str
    description: str
    kind: str = "string"
    choices: tuple[str, ...] = ()
    default: str | None = None


FIELDS = (
    FormField(
        "region",
        "Region",
        "Where requests are sent and may be answered from: global (api.bfl.ai), eu (api.eu.bfl.ai) or us "
        "(api.us.bfl.ai). With eu, a polling or delivery host outside the EU is an error before any request to it.",
        choices=REGIONS,
        default="global",
    ),
    FormField(
        "timeout",
        "Timeout (seconds)",
        "How long to wait for a connection and for each part of an answer. Default 30.",
        kind="number",
    ),
    FormField(
        "trusted_hosts",
        "Trusted hosts",
        "Further hosts that may get the API key, comma-separated: host, host:port or https://host. Only for a "
        "gateway of your own.",
    ),
    FormField(
        "delivery_hosts",
        "Delivery hosts",
        "Further hosts that results may be downloaded from, comma-separated. They never get the API key.",
    ),
)


def build_conn_fields() -> dict[str, dict[str, Any]]:
    """Return the extra fields as ``conn-fields`` of the provider metadata."""
    return {field.name: _conn_field(field) for field in FIELDS}


def _conn_field(field: FormField) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": [field.kind, "null"]}
    if field.choices:
        schema["enum"] = list(field.choices)
    if field.default is not None:
        schema["default"] = field.default
    return {"label": field.label, "description": field.description, "schema": schema}


def build_ui_field_behaviour() -> dict[str, Any]:
    """Return what becomes of the standard fields, with the key names of the hook method."""
    return {
        "hidden_fields": list(HIDDEN_FIELDS),
        "relabeling": dict(RELABELING),
        "placeholders": dict(PLACEHOLDERS),
    }


def build_metadata_field_behaviour() -> dict[str, Any]:
    """Return the same with the key names of the provider metadata."""
    return {name.replace("_", "-"): value for name, value in build_ui_field_behaviour().items()}


def build_form_widgets() -> dict[str, Any]:
    """
    Return the extra fields as WTForms fields, for Airflow before 3.2; empty where no WTForms is installed.

    Airflow 3.1 calls this with the form libraries replaced by stand-ins, which know ``any_of`` but not the
    validator class, so the imports stay in here.
    """
    try:
        from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
        from flask_babel import lazy_gettext
        from wtforms import StringField
        from wtforms.validators import Optional, any_of
    except ImportError:
        return {}
    return {
        field.name: StringField(
            lazy_gettext(field.label),
            widget=_DropDown(field.choices) if field.choices else BS3TextFieldWidget(),
            description=field.description,
            default=field.default,
            validators=[Optional(), *([any_of(list(field.choices))] if field.choices else [])],
        )
        for field in FIELDS
    }


class _DropDown:
    """
    Shows a text field as a drop-down: Airflow 2 takes no other kind of field from a provider.

    :param choices: What it offers.
    """

    def __init__(self, choices: tuple[str, ...]) -> None:
        self._choices = choices

    def __call__(self, field: Any, **_: Any) -> Any:
        from markupsafe import Markup

        chosen = field.data or field.default
        plain = Markup('<option value="{0}">{0}</option>')
        selected = Markup('<option value="{0}" selected>{0}</option>')
        options = Markup("").join((selected if each == chosen else plain).format(each) for each in self._choices)
        shown = Markup('<select class="form-control" id="{}" name="{}">{}</select>')
        return shown.format(field.id, field.name, options)
