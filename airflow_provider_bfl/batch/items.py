# SPDX-License-Identifier: Apache-2.0
"""
The requests of a batch, read one at a time: from a list, or from a CSV or JSON Lines file in object storage.

Only the shape is judged here; whether BFL would take a request is judged by whoever reads on.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, TextIO
from urllib.parse import urlsplit

from airflow_provider_bfl.exceptions import BflConfigError, BflValidationError

#: Columns and keys of this provider's own; in a CSV every other column is one of BFL's request fields.
OWN_KEYS = ("name", "model", "prompt", "parameters")

_JSON_LINES = frozenset({".jsonl", ".ndjson"})

#: A row may hold a picture as base64; the csv module's own limit is 128 KB.
_MAX_CSV_FIELD_CHARS = 512 * 1024**2


@dataclass(frozen=True)
class Item:
    """
    One request of a batch.

    :param position: Its place among the requests, from 0.
    :param name: The user's name for it, or None.
    :param model: Its model, or None for the batch's.
    :param request: BFL's field names; what the item itself says, without the batch's ``parameters``.
    """

    position: int
    name: str | None
    model: str | None
    request: Mapping[str, Any] = field(repr=False)

    @property
    def key(self) -> str:
        """What the manifest knows it by."""
        return self.name if self.name is not None else str(self.position)


def is_file_uri(requests: str) -> bool:
    """
    Whether ``requests`` is the URI of a file this can read.

    :raises BflConfigError: it is a bare string, such as a list that lost its brackets, or an unknown kind of file.
    """
    suffix = PurePosixPath(urlsplit(requests).path).suffix.lower() if "://" in requests else ""
    if suffix == ".csv" or suffix in _JSON_LINES:
        return True
    shown = requests.partition("?")[0][:80] if "://" in requests else f"a string of {len(requests)} characters"
    raise BflConfigError(
        f"requests is {shown}: give a list of prompts, a list of dicts, or the URI of a .csv, .jsonl or .ndjson file. "
        "Nothing was sent. A template that should give a list needs render_template_as_native_obj=True on the Dag."
    )


def read_list(requests: Iterable[Any]) -> Iterator[Item]:
    """
    Read prompts and dicts.

    :raises BflValidationError: an element is neither.
    """
    for position, element in enumerate(requests):
        if isinstance(element, str):
            yield Item(position, None, None, {"prompt": element})
        elif isinstance(element, Mapping):
            yield _from_mapping(position, element, where=f"requests[{position}]")
        else:
            raise BflValidationError(
                f"requests[{position}] is a {type(element).__name__}; give a prompt or a dict. Nothing was sent."
            )


def read_file(file: TextIO, uri: str) -> Iterator[Item]:
    """
    Read a CSV or JSON Lines file, as its name says.

    :param file: Opened with ``newline=""`` and encoding ``utf-8-sig``.
    :raises BflValidationError: a line is not what the file's name says.
    """
    is_csv = PurePosixPath(urlsplit(uri).path).suffix.lower() == ".csv"
    return _read_csv(file, uri) if is_csv else _read_json_lines(file, uri)


def as_text(body: Any) -> TextIO:
    """Return an opened object as the text that :func:`read_file` wants."""
    return io.TextIOWrapper(body, encoding="utf-8-sig", newline="")


def _read_csv(file: TextIO, uri: str) -> Iterator[Item]:
    csv.field_size_limit(_MAX_CSV_FIELD_CHARS)
    reader = csv.DictReader(file, strict=True)
    try:
        columns = reader.fieldnames or []
        if len(set(columns)) != len(columns) or "" in columns:
            raise BflValidationError(f"{uri}: a column has no name, or the name of another. Nothing was sent.")
        for position, cells in enumerate(reader):
            where = f"{uri}, line {reader.line_num}"
            if None in cells or None in cells.values():
                raise BflValidationError(f"{where}: not as many cells as there are columns. Nothing was sent.")
            yield _from_cells(position, cells, where=where)
    except (csv.Error, UnicodeError) as error:
        raise BflValidationError(f"{uri}, line {reader.line_num + 1}: not CSV in UTF-8 ({error}).") from None


def _from_cells(position: int, cells: Mapping[str, str], *, where: str) -> Item:
    element: dict[str, Any] = {name: cells[name] for name in ("name", "model", "prompt") if cells.get(name)}
    parameters = _json_cell("parameters", cells["parameters"], where=where) if cells.get("parameters") else {}
    if not isinstance(parameters, dict):
        raise BflValidationError(f"{where}: parameters is not a JSON object. Nothing was sent.")
    fields = {name: _scalar(text) for name, text in cells.items() if name not in OWN_KEYS and text}
    if twice := sorted(set(fields) & set(parameters)):
        raise BflValidationError(f"{where}: {', '.join(twice)} is a column and in parameters. Nothing was sent.")
    return _from_mapping(position, {**element, "parameters": {**fields, **parameters}}, where=where)


def _scalar(text: str) -> Any:
    # A cell is text; BFL wants 1024 and true as what they are.
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, bool | int | float | list | dict) else text


def _json_cell(name: str, text: str, *, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise BflValidationError(f"{where}: {name} is not JSON. Nothing was sent.") from None


def _read_json_lines(file: TextIO, uri: str) -> Iterator[Item]:
    position = 0
    number = 0
    try:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            where = f"{uri}, line {number}"
            element = _json_cell("the line", line, where=where)
            if isinstance(element, str):
                element = {"prompt": element}
            if not isinstance(element, dict):
                raise BflValidationError(f"{where}: neither a JSON object nor a prompt. Nothing was sent.")
            yield _from_mapping(position, element, where=where)
            position += 1
    except UnicodeError as error:
        raise BflValidationError(f"{uri}, line {number + 1}: not UTF-8 ({error}). Nothing was sent.") from None


def _from_mapping(position: int, element: Mapping[str, Any], *, where: str) -> Item:
    strangers = [str(name) for name in element if name not in OWN_KEYS]
    if strangers:
        raise BflValidationError(
            f"{where}: an item has no {', '.join(strangers)}; it has {', '.join(OWN_KEYS)}. BFL's own fields go into "
            "parameters. Nothing was sent."
        )
    name, model, parameters = (element.get(key) for key in ("name", "model", "parameters"))
    for key, value in (("name", name), ("model", model), ("prompt", element.get("prompt"))):
        if value is not None and (not isinstance(value, str) or not value.strip()):
            raise BflValidationError(f"{where}: {key} is not text, or blank. Nothing was sent.")
    if parameters is not None and not isinstance(parameters, Mapping):
        raise BflValidationError(f"{where}: parameters is no object of BFL's field names. Nothing was sent.")
    request = dict(parameters or {})
    if element.get("prompt") is not None:
        if "prompt" in request:
            raise BflValidationError(f"{where}: prompt is given twice. Nothing was sent.")
        request["prompt"] = element["prompt"]
    return Item(position, name, model, request)
