# SPDX-License-Identifier: Apache-2.0
"""
S3 and what speaks its protocol, through Airflow's S3Hook.

boto3's managed uploads cannot create conditionally and keep ten parts in memory, so both ways of an upload are here:
one PUT, or a multipart upload that is aborted unless it completes. Either way nothing is visible before all of it is.
Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cached_property
from io import BufferedReader, BytesIO
from os import getenv
from typing import Any, BinaryIO
from urllib.parse import quote

from airflow_provider_bfl.landing.store import (
    HOPELESS,
    Contents,
    NameTakenError,
    StoredObject,
    StoreFaultError,
    described,
    header_value,
)

#: S3 takes at most 10 000 parts, so this allows 78 GB; BFL's results end far below.
PART_BYTES = 8 * 1024**2

#: Parts in flight, each in memory once: 24 MB at most.
_PARALLEL_PARTS = 3

_REQUEST_OPTIONS = frozenset({"ExpectedBucketOwner", "RequestPayer"})
_READ_OPTIONS = _REQUEST_OPTIONS | {"SSECustomerAlgorithm", "SSECustomerKey", "SSECustomerKeyMD5"}

#: Options that describe an object's own content; a sidecar has other content.
_CONTENT_OPTIONS = frozenset(
    {"ContentDisposition", "ContentEncoding", "ContentLanguage", "ContentType", "Metadata", "WebsiteRedirectLocation"}
)

#: 4xx answers that another try may find lifted. ``NoSuchUpload`` is what the repeat of a "complete" gets whose first
#: answer was lost.
_PASSING_CODES = frozenset({"ConditionalRequestConflict", "NoSuchUpload", "OperationAborted", "RequestTimeout"})

_ADVICE = {
    "AccessDenied": "allow the connection s3:PutObject, s3:GetObject and s3:ListBucket there",
    "403": "allow the connection s3:PutObject, s3:GetObject and s3:ListBucket there",
    "NoSuchBucket": "create the bucket or correct its name",
    "InvalidAccessKeyId": "correct the connection's access key",
    "SignatureDoesNotMatch": "correct the connection's secret key",
    "ExpiredToken": "renew the connection's session token",
}


#: Amazon's partitions of their own, by the region's first letters.
_CONSOLE_DOMAINS = {"cn-": "amazonaws.cn", "us-gov-": "amazonaws-us-gov.com"}

#: Where boto3 and Airflow look for another endpoint beside the connection.
_ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")


class S3Store:
    """
    One bucket.

    :param bucket: Its name.
    :param aws_conn_id: The Airflow connection; its ``endpoint_url`` may name any S3-compatible store.
    :param extra_args: Options of every object, named as in boto3's ``put_object``: encryption, ACL, tags, storage
        class, cache control, and for the object but not its sidecar ``ContentDisposition`` and the like.
    :param metadata: Kept on the object beside landing's own; landing's ``bfl-id``, ``bfl-model`` and ``sha256`` win.
    """

    def __init__(
        self,
        bucket: str,
        *,
        aws_conn_id: str | None,
        extra_args: Mapping[str, Any] | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self.bucket = bucket
        self.aws_conn_id = aws_conn_id
        self._extra_args = dict(extra_args or {})
        self._metadata = {**self._extra_args.pop("Metadata", {}), **(metadata or {})}

    @property
    def root(self) -> str:
        """The bucket's URI."""
        return f"s3://{self.bucket}/"

    @cached_property
    def _client(self) -> Any:
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook

        return S3Hook(aws_conn_id=self.aws_conn_id).get_conn()

    def stat(self, key: str) -> StoredObject | None:
        """Return what is stored under ``key``, or None."""
        with _translated(self.root):
            try:
                head = self._client.head_object(**self._at(key), **self._only(_READ_OPTIONS))
            except Exception as error:
                if _code(error) in {"404", "NoSuchKey"}:
                    return None
                raise
        return StoredObject(head["ContentLength"], head.get("Metadata", {}).get("sha256"), head.get("ContentType"))

    def put(self, key: str, contents: Contents, *, create_only: bool) -> None:
        """Store all of ``contents`` under ``key``, or nothing."""
        upload = self._put_whole if contents.size <= PART_BYTES else self._put_in_parts
        with _translated(self.root):
            try:
                upload(key, contents, {"IfNoneMatch": "*"} if create_only else {})
            except Exception as error:
                # Some S3-compatible stores know no conditional write; the caller has looked whether the name is free.
                if not (create_only and _code(error) in {"NotImplemented", "501"}):
                    raise
                upload(key, contents, {})

    @contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        """Open what is stored under ``key`` for reading, streamed."""
        with _translated(self.root):
            answer = self._client.get_object(**self._at(key), **self._only(_READ_OPTIONS))
            # botocore's own body iterates over pieces of 1 KB, which whoever expects a file would take for lines.
            with BufferedReader(answer["Body"]) as body:
                yield body

    def console_url(self, key: str) -> str | None:
        """Return the console's page about an object or a prefix; None for what is not Amazon's own."""
        domain = _console_domain(self.aws_conn_id)
        page = "buckets" if not key or key.endswith("/") else "object"
        return domain and f"https://console.{domain}/s3/{page}/{self.bucket}?prefix={quote(key)}"

    def keys(self, prefix: str) -> list[str]:
        """Return the keys of everything below ``prefix``, sorted."""
        with _translated(self.root):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=prefix, **self._only(_REQUEST_OPTIONS)
            )
            return sorted(found["Key"] for page in pages for found in page.get("Contents", ()))

    def delete(self, key: str) -> None:
        """Remove what is stored under ``key``, if anything is."""
        with _translated(self.root):
            self._client.delete_object(**self._at(key), **self._only(_REQUEST_OPTIONS))

    def _put_whole(self, key: str, contents: Contents, condition: Mapping[str, str]) -> None:
        contents.body.seek(0)
        options = {**self._checksum, **self._options(contents), **condition}
        self._client.put_object(**self._at(key), **options, Body=contents.body)

    def _put_in_parts(self, key: str, contents: Contents, condition: Mapping[str, str]) -> None:
        created = self._client.create_multipart_upload(**self._at(key), **self._checksum, **self._options(contents))
        upload = {**self._at(key), "UploadId": created["UploadId"]}
        try:
            parts = self._upload_parts(upload, contents.body)
            self._client.complete_multipart_upload(
                **upload, **self._only(_READ_OPTIONS), **condition, MultipartUpload={"Parts": parts}
            )
        except BaseException:
            with suppress(Exception):  # the first failure is the one to report
                self._client.abort_multipart_upload(**upload, **self._only(_REQUEST_OPTIONS))
            raise

    def _upload_parts(self, upload: Mapping[str, Any], body: BinaryIO) -> list[dict[str, Any]]:
        options = {**self._checksum, **self._only(_READ_OPTIONS)}

        def send(number: int, part: bytes) -> dict[str, Any]:
            answer = self._client.upload_part(**upload, **options, PartNumber=number, Body=BytesIO(part))
            checksums = {name: value for name, value in answer.items() if name.startswith("Checksum")}
            return {"PartNumber": number, "ETag": answer["ETag"], **checksums}

        done: list[dict[str, Any]] = []
        under_way: deque[Future[dict[str, Any]]] = deque()
        body.seek(0)
        # Leaving the pool waits for its threads, so no part arrives after an abort.
        with ThreadPoolExecutor(_PARALLEL_PARTS, thread_name_prefix="bfl-land") as pool:
            while part := body.read(PART_BYTES):
                under_way.append(pool.submit(send, len(done) + len(under_way) + 1, part))
                if len(under_way) == _PARALLEL_PARTS:
                    done.append(under_way.popleft().result())
            done.extend(each.result() for each in under_way)
        return done

    @property
    def _checksum(self) -> dict[str, str]:
        # botocore adds a checksum to every part but does not announce it when the upload is created, as S3 demands.
        config = self._client.meta.config
        by_default = getattr(config, "request_checksum_calculation", None) == "when_supported"
        algorithm = self._extra_args.get("ChecksumAlgorithm") or ("CRC32" if by_default else None)
        return {"ChecksumAlgorithm": algorithm} if algorithm else {}

    def _options(self, contents: Contents) -> dict[str, Any]:
        given, metadata = self._extra_args, {**self._metadata, **contents.metadata}
        if contents.is_sidecar:
            given = {name: value for name, value in given.items() if name not in _CONTENT_OPTIONS}
            metadata = dict(contents.metadata)
        return {
            "ContentType": contents.content_type,
            **{name: value for name, value in given.items() if name != "ChecksumAlgorithm"},
            "Metadata": {name: header_value(value) for name, value in metadata.items()},
        }

    def _only(self, names: frozenset[str]) -> dict[str, Any]:
        return {name: value for name, value in self._extra_args.items() if name in names}

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": key}


@contextmanager
def _translated(place: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever a client raises, nothing was stored
        raise _fault(error, place) from None


def _fault(error: Exception, place: str) -> Exception:
    from botocore.exceptions import (
        ClientError,
        NoCredentialsError,
        ParamValidationError,
        PartialCredentialsError,
    )

    if isinstance(error, ClientError):
        code, status = _code(error), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if status == 412:
            return NameTakenError()
        advice = f": {_ADVICE[code]}" if code in _ADVICE else ""
        permanent = status in range(300, 500) and status not in {408, 429} and code not in _PASSING_CODES
        return StoreFaultError(f"{place} answered {status} {code}{advice}", permanent=permanent)
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return StoreFaultError("the AWS connection has no complete credentials", permanent=True)
    return StoreFaultError(described(error), permanent=isinstance(error, (ParamValidationError, *HOPELESS)))


def _code(error: Exception) -> str:
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _console_domain(aws_conn_id: str | None) -> str | None:
    # Looked up without the SDK, which a task that only submits never loads.
    from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

    try:
        extra = BaseHook.get_connection(aws_conn_id).extra_dejson if aws_conn_id else {}
    except AirflowNotFoundException:
        extra = {}
    of_s3 = (extra.get("service_config") or {}).get("s3") or {}
    if any((extra.get("endpoint_url"), of_s3.get("endpoint_url"), *map(getenv, _ENDPOINT_VARIABLES))):
        return None
    region = str(extra.get("region_name") or "")
    return next((domain for start, domain in _CONSOLE_DOMAINS.items() if region.startswith(start)), "aws.amazon.com")
