# SPDX-License-Identifier: Apache-2.0
"""The requests of a batch, all read and judged before the first is paid for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from airflow_provider_bfl.batch.items import Item, as_text, is_file_uri, read_file, read_list
from airflow_provider_bfl.batch.table import Table, Task
from airflow_provider_bfl.durable.record import fingerprint
from airflow_provider_bfl.exceptions import BflConfigError, BflError, BflValidationError
from airflow_provider_bfl.landing.names import safe_path
from airflow_provider_bfl.landing.store import described
from airflow_provider_bfl.operators.request import build_request, check_suffix, output_format_of, validate_request

if TYPE_CHECKING:
    from airflow_provider_bfl.operators.batch import BflBatchOperator

#: Rows named in one error; a column with a wrong name is wrong in every row.
_MAX_NAMED = 20

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".mp4"})

_NOT_IN_BATCHES = ("webhook_url", "webhook_secret")


@dataclass
class Reader:
    """
    Reads the requests of one operator into a table.

    :param region: Of the connection; part of what a request is known by.
    """

    operator: BflBatchOperator
    table: Table
    region: str
    problems: list[str] = field(default_factory=list)
    wrong: int = 0

    def read(self) -> None:
        """
        Read and judge all of them.

        :raises BflValidationError: some are wrong; nothing was sent.
        :raises BflError: the file could not be read; a retry may help.
        """
        with self._items() as items, self.table.filling():
            for item in items:
                self._take(item)
        if self.wrong:
            further = f" (and {self.wrong - len(self.problems)} more)" if self.wrong > len(self.problems) else ""
            raise BflValidationError(
                f"{self.wrong} of the requests are wrong; none was sent and nothing is billed. "
                + " ".join(self.problems)
                + further
            )

    @contextmanager
    def _items(self) -> Iterator[Iterable[Item]]:
        requests: Any = self.operator.requests
        if isinstance(requests, str):
            is_file_uri(requests)
            with _opened(requests, self.operator.storage_conn_id) as body, as_text(body) as text:
                yield read_file(text, requests)
        elif isinstance(requests, Iterable) and not isinstance(requests, Mapping | bytes):
            yield read_list(requests)
        else:
            raise BflConfigError(
                f"requests is a {type(requests).__name__}; give a list of prompts, a list of dicts, or the URI of a "
                ".csv, .jsonl or .ndjson file. Nothing was sent."
            )

    def _take(self, item: Item) -> None:
        try:
            task = self._task(item)
            twin = self.table.add(task)
            if twin is not None:
                raise BflValidationError(f"its name is that of item {twin}, too; names must differ.")
        except BflError as error:
            self.wrong += 1
            if len(self.problems) < _MAX_NAMED:
                named = f" ({item.name})" if item.name else ""
                self.problems.append(f"[item {item.position}{named}] {error}")

    def _task(self, item: Item) -> Task:
        model = item.model or self.operator.model
        common = {**(self.operator.parameters or {}), **item.request}
        prompt = common.pop("prompt", None)
        request = build_request(prompt, common)
        if hooks := [name for name in _NOT_IN_BATCHES if name in request]:
            raise BflValidationError(f"{hooks[0]} cannot be used in a batch, which polls for its results.")
        validate_request(model, request, validation=self.operator.validation)
        identity = fingerprint(model=model, request=request, bfl_conn_id=self.operator.bfl_conn_id, region=self.region)
        stem = _stem(item, identity, output_format_of(model, request))
        return Task(item.position, item.key, model, identity, stem, request)


def _stem(item: Item, identity: str, output_format: str | None) -> str:
    if item.name is None:
        # Two runs may share a directory; the same place of another list is another picture.
        return f"{item.position:06d}-{identity[:8]}"
    check_suffix(item.name, output_format)
    suffix = PurePosixPath(item.name).suffix
    stem = item.name.removesuffix(suffix) if suffix.lower() in _SUFFIXES else item.name
    if stem.startswith("/") or stem.endswith("/") or not stem:
        raise BflValidationError("its name is no name of an object.")
    return safe_path(stem)


@contextmanager
def _opened(uri: str, conn_id: str | None) -> Iterator[Any]:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    try:
        path = ObjectStoragePath(uri, conn_id=conn_id) if conn_id else ObjectStoragePath(uri)
        with path.open("rb") as body:  # type: ignore[no-untyped-call]
            yield body
    except BflError:
        raise
    except FileNotFoundError:
        raise BflConfigError(f"There is no file {uri}. Nothing was sent.") from None
    except (ImportError, ValueError) as error:
        raise BflConfigError(f"{uri} cannot be read ({described(error)}). Nothing was sent.") from None
    except Exception as error:  # noqa: BLE001 - whatever a client raises; its words may hold a signed URL
        raise BflError(
            f"{uri} could not be read ({described(error)}). Nothing was sent; a retry reads it again."
        ) from None
