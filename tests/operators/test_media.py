# SPDX-License-Identifier: Apache-2.0
"""Input images: three forms are taken, everything else is refused unread and unsent."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_bfl.exceptions import BflDownloadError, BflError, BflServiceError, BflValidationError
from tests.airflow_fixtures import PNG, LogRecorder, World
from tests.storage_servers import S3Server

ENCODED = base64.b64encode(PNG).decode()


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one directory local files may be read from."""
    folder = tmp_path / "inputs"
    folder.mkdir()
    monkeypatch.setenv("AIRFLOW__BFL__ALLOW_LOCAL_FILES", str(folder))
    return folder


def edit(bfl: World, image: Any, **arguments: Any) -> Any:
    parameters = {"input_image": image}
    return bfl.generation(model="flux-kontext-pro", parameters=parameters, **arguments)


def sent_image(bfl: World) -> str:
    image: str = bfl.simulator.ledger.tasks[0].request["input_image"]
    return image


class TestWhatIsTaken:
    def test_an_https_url_is_handed_on_for_bfl_to_fetch(self, bfl: World) -> None:
        edit(bfl, "https://example.com/chair.png").attempt()

        assert sent_image(bfl) == "https://example.com/chair.png"

    def test_base64_is_handed_on(self, bfl: World) -> None:
        edit(bfl, ENCODED).attempt()

        assert sent_image(bfl) == ENCODED

    def test_a_data_uri_is_sent_as_plain_base64(self, bfl: World) -> None:
        edit(bfl, f"data:image/png;base64,{ENCODED}").attempt()

        assert sent_image(bfl) == ENCODED

    def test_a_local_file_below_the_allowed_directory_is_read(self, bfl: World, inputs: Path) -> None:
        (inputs / "chair.png").write_bytes(PNG)

        edit(bfl, f"file://{inputs}/chair.png").attempt()

        assert sent_image(bfl) == ENCODED

    def test_an_object_of_an_s3_bucket_is_read_with_the_storage_connection(
        self, bfl: World, s3_server: S3Server
    ) -> None:
        pytest.importorskip("aiobotocore")
        bucket = s3_server.new_bucket()
        s3_server.client.put_object(Bucket=bucket, Key="in/chair.png", Body=PNG)

        destination = f"s3://{bucket}/out/"
        result = edit(
            bfl, f"s3://{bucket}/in/chair.png", storage_conn_id=s3_server.conn_id, destination=destination
        ).attempt()

        assert sent_image(bfl) == ENCODED
        assert result["uri"].startswith(destination)

    def test_every_image_of_a_list_is_read(self, bfl: World, inputs: Path) -> None:
        (inputs / "chair.png").write_bytes(PNG)

        images = [f"file://{inputs}/chair.png", "https://example.com/table.png"]
        bfl.generation(model="flux-3-image", parameters={"images": images}).attempt()

        assert bfl.simulator.ledger.tasks[0].request["images"] == [ENCODED, "https://example.com/table.png"]

    def test_a_keyframes_image_is_read_and_its_other_fields_are_left_alone(self, bfl: World, inputs: Path) -> None:
        from airflow_provider_bfl.api.catalogue import get_model
        from airflow_provider_bfl.operators.media import resolve_inputs

        (inputs / "chair.png").write_bytes(PNG)
        keyframes = [{"image": f"file://{inputs}/chair.png", "frame": 3}]

        resolved = resolve_inputs({"keyframes": keyframes}, get_model("flux-3-video"), storage_conn_id=None)

        assert resolved.body["keyframes"] == [{"image": ENCODED, "frame": 3}]


class TestWhatIsRefusedUnsent:
    @pytest.mark.parametrize(
        "image",
        [
            "chair.png",
            "/etc/passwd",
            "/etc/ssl",  # eight characters that are valid base64 too
            "etc/host",
            "../../etc/passwd",
            "not an image at all",
            base64.b64encode(b"plain text, no image").decode(),
            "data:text/plain;base64," + base64.b64encode(b"plain text").decode(),
            "",
        ],
    )
    def test_a_text_that_is_no_image(self, bfl: World, image: str) -> None:
        with pytest.raises(BflValidationError, match="A bare path is never read"):
            edit(bfl, image).attempt()

        assert bfl.posts_received == 0

    def test_a_plain_http_url(self, bfl: World) -> None:
        with pytest.raises(BflValidationError, match="use https"):
            edit(bfl, "http://example.com/chair.png").attempt()

        assert bfl.posts_received == 0

    @pytest.mark.parametrize("uri", ["nosuchstore://bucket/chair.png", "s3://", "file://"])
    def test_a_uri_that_names_nothing(self, bfl: World, uri: str) -> None:
        with pytest.raises(BflError, match=r"input_image: .*Nothing was sent"):
            edit(bfl, uri).attempt()

        assert bfl.posts_received == 0

    def test_a_local_file_while_none_is_allowed(self, bfl: World, tmp_path: Path) -> None:
        (tmp_path / "chair.png").write_bytes(PNG)

        with pytest.raises(BflValidationError, match="now empty"):
            edit(bfl, f"file://{tmp_path}/chair.png").attempt()

        assert bfl.posts_received == 0

    @pytest.mark.parametrize("scheme", ["file", "local", "FILE"])
    @pytest.mark.parametrize(
        "escape", ["{outside}", "{inside}/../secret.png", "{inside}/link.png", "{inside}/dir/secret.png"]
    )
    def test_a_way_out_of_the_allowed_directory(
        self, bfl: World, inputs: Path, tmp_path: Path, escape: str, scheme: str
    ) -> None:
        outside = tmp_path / "secret.png"
        outside.write_bytes(PNG)
        (inputs / "link.png").symlink_to(outside)
        (inputs / "dir").symlink_to(tmp_path)

        # Airflow 2.11 knows fewer of these schemes.
        with pytest.raises(BflValidationError, match=r"(may not|cannot) be read"):
            edit(bfl, f"{scheme}://{escape.format(outside=outside, inside=inputs)}").attempt()

        assert bfl.posts_received == 0

    @pytest.mark.parametrize(
        "uri", ["://{up}{outside}", "file://a_conn@{outside}", "file://{up}{outside}", "0://{up}{outside}"]
    )
    def test_a_local_path_that_is_spelt_like_another_store(
        self, bfl: World, inputs: Path, tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        outside = tmp_path / "secret.png"
        outside.write_bytes(PNG)
        monkeypatch.chdir(inputs)
        up = "/".join([".."] * 20)

        with pytest.raises(BflError, match="Nothing was sent"):
            edit(bfl, uri.format(up=up, outside=outside)).attempt()

        assert bfl.posts_received == 0

    def test_a_sibling_whose_name_begins_like_the_allowed_directory(self, bfl: World, inputs: Path) -> None:
        sibling = inputs.with_name("inputs-of-others")
        sibling.mkdir()
        (sibling / "chair.png").write_bytes(PNG)

        with pytest.raises(BflValidationError, match="may not be read"):
            edit(bfl, f"file://{sibling}/chair.png").attempt()

    def test_a_missing_file(self, bfl: World, inputs: Path) -> None:
        with pytest.raises(BflValidationError, match="there is no object"):
            edit(bfl, f"file://{inputs}/gone.png").attempt()

        assert bfl.posts_received == 0

    def test_a_missing_object(self, bfl: World, s3_server: S3Server) -> None:
        pytest.importorskip("aiobotocore")
        uri = f"s3://{s3_server.new_bucket()}/gone.png"

        with pytest.raises(BflValidationError, match="there is no object"):
            edit(bfl, uri, storage_conn_id=s3_server.conn_id).attempt()

        assert bfl.posts_received == 0

    def test_a_file_that_is_no_image(self, bfl: World, inputs: Path) -> None:
        (inputs / "notes.png").write_text("not an image")

        with pytest.raises(BflValidationError, match="is not an image or video"):
            edit(bfl, f"file://{inputs}/notes.png").attempt()

        assert bfl.posts_received == 0

    def test_a_file_above_bfls_limit(self, bfl: World, inputs: Path) -> None:
        (inputs / "huge.png").write_bytes(PNG + bytes(20 * 1024 * 1024))

        with pytest.raises(BflValidationError, match="BFL takes 20971520 at most"):
            edit(bfl, f"file://{inputs}/huge.png").attempt()

        assert bfl.posts_received == 0


class TestALargeInputStaysWhereItIs:
    def test_xcom_trigger_record_and_rendered_fields_hold_its_name_alone(
        self, bfl: World, inputs: Path, deferrable: bool
    ) -> None:
        image = inputs / "large.png"
        image.write_bytes(PNG + bytes(20 * 1024 * 1024 - len(PNG)))
        run = edit(bfl, f"file://{image}", deferrable=deferrable, destination=None)

        run.attempt()

        held = [
            run.xcom,
            run.record,
            [deferral.kwargs for deferral in run.deferrals],
            *([getattr(operator, name) for name in operator.template_fields] for operator in run.operators),
        ]
        assert max(len(json.dumps(each)) for each in held) < 2048
        assert bfl.posts == 1

    def test_the_sidecar_names_it_with_its_digest(self, bfl: World, inputs: Path) -> None:
        (inputs / "chair.png").write_bytes(PNG)

        result = edit(bfl, f"file://{inputs}/chair.png").attempt()

        sidecar = json.loads(Path(f"{bfl.path_of(result)}.json").read_text())
        assert f"file://{inputs}/chair.png" in json.dumps(sidecar["request"]["input_image"])


class TestAnInputThatIsGoneByTheRetry:
    @pytest.mark.parametrize("loss", ["deleted", "unreadable"])
    def test_does_not_lose_the_paid_picture(
        self, bfl: World, inputs: Path, loss: str, deferrable: bool, log: LogRecorder
    ) -> None:
        image = inputs / "chair.png"
        image.write_bytes(PNG)
        run = edit(bfl, f"file://{image}", deferrable=deferrable)
        bfl.simulator.fault("delivery", status=500, times=3)
        with pytest.raises(BflDownloadError, match="generated and billed"):
            run.attempt()
        image.unlink()
        if loss == "unreadable":
            image.mkdir()

        result = run.attempt()

        assert bfl.path_of(result).exists()
        assert result["reattached"] is True
        assert bfl.posts == 1
        assert log.about("inputs cannot be read")

    def test_is_an_error_where_a_new_generation_is_forced(self, bfl: World, inputs: Path) -> None:
        image = inputs / "chair.png"
        image.write_bytes(PNG)
        run = edit(bfl, f"file://{image}", force_new=True)
        run.attempt()
        image.unlink()
        run.clear()

        with pytest.raises(BflValidationError, match="there is no object"):
            run.attempt()

        assert bfl.posts_received == 1

    def test_is_an_error_while_nothing_is_paid(self, bfl: World, inputs: Path) -> None:
        image = inputs / "chair.png"
        image.write_bytes(PNG)
        run = edit(bfl, f"file://{image}")
        bfl.simulator.fault("submit", status=500, body={"detail": "no"})
        with pytest.raises(BflServiceError, match="refused and not billed"):
            run.attempt()
        image.unlink()

        with pytest.raises(BflValidationError, match="there is no object"):
            run.attempt()

        assert bfl.posts == 0
