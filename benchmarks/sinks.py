# SPDX-License-Identifier: Apache-2.0
"""
Object stores that keep nothing: they speak enough of S3's and Google's protocols to take an upload, and count it.

A store that kept half a gigabyte, or took it slowly, would be what is measured. ``python -m benchmarks.sinks`` says
where it listens in a line of JSON; ``GET /_stored`` tells what arrived, ``GET /_open`` how many uploads were begun and
neither completed nor aborted.
"""

from __future__ import annotations

import base64
import itertools
import json
import re
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import google_crc32c

_BUFFER_BYTES = 1 << 20


class _State:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.ids = itertools.count(1)
        self.stored: dict[str, dict[str, Any]] = {}
        self.uploads: dict[str, dict[str, Any]] = {}


def _crc(content: bytes = b"") -> Any:
    checksum: Any = google_crc32c.Checksum(content)  # type: ignore[no-untyped-call]
    return checksum


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    state = _State()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
        """Say nothing."""

    def do_GET(self) -> None:
        if self.path == "/_stored":
            return self._json(self.state.stored)
        if self.path == "/_open":
            return self._json(len(self.state.uploads))
        return self._look()

    def do_HEAD(self) -> None:
        self._look()

    def do_DELETE(self) -> None:
        self._take()
        self.state.uploads.pop(self._query("uploadId"), None)
        self._answer(204)

    def do_POST(self) -> None:
        path, query = urlsplit(self.path).path, urlsplit(self.path).query
        if path.startswith("/upload/storage/v1/b/"):
            return self._google(path)
        self._take()
        if query.startswith("uploads"):
            upload = self._begin(path)
            xml = f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
        else:
            done = self.state.uploads.pop(self._query("uploadId"))
            self._keep(path, done["size"])
            xml = '<CompleteMultipartUploadResult><ETag>"e"</ETag></CompleteMultipartUploadResult>'
        return self._answer(200, xml.encode(), {"Content-Type": "application/xml"})

    def do_PUT(self) -> None:
        if upload := self._query("upload_id"):
            return self._google_part(upload)
        size, _ = self._take()
        if upload := self._query("uploadId"):
            with self.state.lock:
                self.state.uploads[upload]["size"] += size
        else:
            self._keep(urlsplit(self.path).path, size)
        return self._answer(200, headers={"ETag": '"e"'})

    def _google(self, path: str) -> None:
        bucket = path.split("/")[5]
        _, body = self._take(keep=True)
        if self._query("uploadType") == "resumable":
            name = self._query("name") or json.loads(body)["name"]
            upload = self._begin(f"/{bucket}/{name}")
            place = f"http://{self.headers['Host']}{path}?upload_id={upload}"
            return self._answer(200, b"{}", {"Location": place})
        # One request with two parts: what the object is called, and the object.
        described, content = self._parts(body)
        return self._google_stored(f"/{bucket}/{described['name']}", len(content), _crc(content))

    def _google_part(self, upload: str) -> None:
        under_way = self.state.uploads[upload]
        size, _ = self._take(under_way["crc"])
        under_way["size"] += size
        if self.headers["Content-Range"].rpartition("/")[2] not in {"*", str(under_way["size"])}:
            return self._answer(308, headers={"Range": f"bytes=0-{under_way['size'] - 1}"})
        done = self.state.uploads.pop(upload)
        return self._google_stored(done["path"], done["size"], done["crc"])

    def _google_stored(self, path: str, size: int, crc: Any) -> None:
        self._keep(path, size)
        _, bucket, name = path.split("/", 2)
        checksum = base64.b64encode(crc.digest()).decode()
        self._json({"bucket": bucket, "name": name, "size": str(size), "crc32c": checksum, "generation": "1"})

    def _parts(self, body: bytes) -> tuple[dict[str, Any], bytes]:
        boundary = re.search(r'boundary="?([^";]+)', self.headers["Content-Type"])
        assert boundary is not None
        first, second = body.split(b"--" + boundary[1].encode())[1:3]
        return json.loads(first.partition(b"\r\n\r\n")[2]), second.partition(b"\r\n\r\n")[2][:-2]

    def _look(self) -> None:
        path = unquote(urlsplit(self.path).path)
        google = re.fullmatch(r"/storage/v1/b/([^/]+)/o/(.+)", path)
        known = self.state.stored.get(f"/{google[1]}/{google[2]}" if google else path)
        self._answer(200 if known else 404, b"", {"X-Stored-Size": str(known["size"])} if known else {})

    def _begin(self, path: str) -> str:
        with self.state.lock:
            upload = str(next(self.state.ids))
            self.state.uploads[upload] = {"path": unquote(path), "size": 0, "crc": _crc()}
            return upload

    def _keep(self, path: str, size: int) -> None:
        with self.state.lock:
            self.state.stored[unquote(path)] = {"size": size, "at": time.time()}

    def _take(self, crc: Any = None, *, keep: bool = False) -> tuple[int, bytes]:
        """Read the body and forget it, unless it is wanted."""
        if self.headers.get("Transfer-Encoding") == "chunked":
            raise NotImplementedError("bodies come with their length")
        missing = size = int(self.headers.get("Content-Length") or 0)
        buffer, kept = memoryview(bytearray(min(size, _BUFFER_BYTES))), []
        while missing:
            got = self.rfile.readinto(buffer[:missing])
            if not got:
                raise ConnectionError("the client went away")
            missing -= got
            if crc is not None:
                crc.update(bytes(buffer[:got]))
            if keep:
                kept.append(bytes(buffer[:got]))
        return size, b"".join(kept)

    def _query(self, name: str) -> str:
        return parse_qs(urlsplit(self.path).query).get(name, [""])[0]

    def _json(self, document: Any) -> None:
        self._answer(200, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Serve until told to stop."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(json.dumps({"url": f"http://127.0.0.1:{server.server_address[1]}"}), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
