"""What a scrape and the log say is what happened: no more, no less, and nothing that is nobody's business."""

import asyncio
import io
import json
import logging
import re
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text
from starlette.requests import Request
from typing_extensions import override

from rindle.bootstrap import Components, create_app
from rindle.objectstore.errors import NotFoundError, ObjectStoreError, PermissionDeniedError, StoreUnavailableError
from rindle.observability import logs
from rindle.protocols.errors import NotAuthenticatedError
from rindle.reaper.report import Chore
from rindle.settings import Settings
from rindle.testing.faults import FaultyStore
from rindle.uploads.errors import StaleUploadError
from rindle.uploads.spilling import spill_idle
from tests.conformance.test_checksum import checksum
from tests.conformance.test_database_down import database_away
from tests.conformance.test_expiration import expire
from tests.conformance.test_tails import bend, cut, remove, tail_of
from tests.http import OCTETS, TUS, Client, HeaderList, Response, id_of
from tests.serving import RunningServer, StartServer, quickly, rebuild, serving_host, take_over

PART = 64 * 1024

Samples = Mapping[str, float]


class Tally(Client):
    """A client that keeps count of what it was answered."""

    def __init__(self, server: RunningServer) -> None:
        super().__init__(server.client.host, server.client.port, server.client.path)
        self.answers: Counter[tuple[str, int]] = Counter()
        self.codes: Counter[str] = Counter()
        self._server = server

    @override
    async def request(
        self, method: str, target: str, headers: HeaderList = (), body: bytes | None = None, *, tus: bool = True
    ) -> Response:
        response = await super().request(method, target, headers, body, tus=tus)
        self.note(method, response)
        return response

    def note(self, method: str, response: Response) -> None:
        self.answers[method, response.status] += 1
        if response.code:
            self.codes[response.code] += 1

    async def scrape(self) -> Samples:
        """All samples, once the server is through with what was asked before."""
        await self._server.tap.ended_all(self.answers.total())
        return parse(await scrape(self))


async def scrape(client: Client) -> str:
    """What a scrape is answered with."""

    def get() -> str:
        with urllib.request.urlopen(f"http://{client.host}:{client.port}/metrics") as response:
            assert response.headers["content-type"].startswith("text/plain")
            body: bytes = response.read()
            return body.decode()

    return await asyncio.to_thread(get)


def parse(scraped: str) -> Samples:
    """Samples by name and labels."""
    samples = {}
    for family in text_string_to_metric_families(scraped):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            samples[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return samples


def counts(samples: Samples, name: str) -> dict[str, float]:
    """The samples of one metric that are not zero, by their labels."""
    found = {key.removeprefix(name): value for key, value in samples.items() if re.fullmatch(rf"{name}(\{{.*)?", key)}
    return {labels: value for labels, value in found.items() if value}


# What a run does; each returns how many bytes of bodies were taken in.


async def one_in_pieces(client: Client) -> int:
    """With all that may go wrong on the way."""
    upload = await client.create(2 * PART + 10)
    assert (await client.patch(upload, 0, bytes(PART + 5))).status == 204
    assert (await client.patch(upload, 0, b"x")).status == 409
    assert (await client.patch(upload, PART + 5, b"hello", checksum("sha1", b"other"))).status == 460
    assert (await client.head(upload)).status == 200
    assert (await client.patch(upload, PART + 5, bytes(PART + 5))).status == 204
    return 2 * PART + 10 + 5


async def small_ones(client: Client, server: RunningServer) -> int:
    """Complete at once, terminated, expired."""
    await client.create(5, body=b"hello")
    assert (await client.delete(await client.create(5))).status == 204
    overdue = await client.create(5, body=b"he")
    await expire(server, overdue)
    assert (await server.parts.reaper.run())[Chore.EXPIRED].done == 1
    assert (await client.head(overdue)).status == 410
    return 5 + 2


async def lost_tails(client: Client, server: RunningServer) -> int:
    for loss in (remove, cut, bend, bend):
        lost = await client.create(10, body=b"hello")
        loss(await tail_of(server, lost))
        assert (await client.patch(lost, 5, b"world")).status == 410
    astray = await client.create(10, body=b"hello")
    await server.change_row(astray, "tail_node = 'another'")
    assert (await client.head(astray)).status == 423
    assert (await client.patch(astray, 5, b"world")).status == 503
    return 5 * 5


async def joined_and_spilled(client: Client, server: RunningServer) -> int:
    partial = ("Upload-Concat", "partial")
    pieces = [await client.create(5, partial, body=b"hello") for _ in range(2)]
    assert (await client.post(("Upload-Concat", f"final;{' '.join(pieces)}"))).status == 201
    await client.create(10, body=b"hello")
    assert await spill_idle(server.parts.engine._storage, server.parts.engine._leases, timedelta(0)) == 1
    return 3 * 5


async def for_nothing(client: Client) -> None:
    assert (await client.head(f"/files/{'0' * 32}")).status == 404
    assert (await client.request("GET", "/nowhere")).status == 404
    assert (await client.request("PROPFIND", "/files")).status == 405
    assert (await client.request("OPTIONS", "/files", tus=False)).status == 204


class TestCounts:
    async def test_of_all_that_may_happen_to_uploads(self, start_server: StartServer) -> None:
        server = await start_server(metrics=True, part_size=PART)
        client = Tally(server)
        received = await one_in_pieces(client)
        received += await small_ones(client, server)
        received += await lost_tails(client, server)
        received += await joined_and_spilled(client, server)
        await for_nothing(client)

        samples = await client.scrape()
        asked: Counter[str] = Counter()
        for (method, status), count in client.answers.items():
            asked[f"{{code={status},method={'other' if method == 'PROPFIND' else method}}}"] += count
        assert counts(samples, "rindle_http_requests_total") == asked
        assert counts(samples, "rindle_errors_total") == {
            f"{{code={code}}}": count for code, count in client.codes.items()
        }
        assert client.codes["tus_tail_missing"] == 6
        assert counts(samples, "rindle_tail_missing_total") == {
            "{reason=elsewhere}": 2,
            "{reason=missing}": 1,
            "{reason=short}": 1,
            "{reason=corrupt}": 2,
        }
        assert counts(samples, "rindle_bytes_received_total") == {"{protocol=tus}": received}
        made = sum(await self.events(server, "created"))
        assert counts(samples, "rindle_uploads_created_total") == {"{protocol=tus,store=file}": made}
        assert made == client.answers["POST", 201]
        finished = sum(await self.events(server, "finished"))
        assert counts(samples, "rindle_uploads_finished_total") == {"{store=file}": finished}
        assert finished == 3
        assert counts(samples, "rindle_uploads_terminated_total") == {
            "{reason=client}": 1,
            "{reason=tus_tail_missing}": 4,
        }
        assert counts(samples, "rindle_uploads_expired_total") == {"": 1}
        assert counts(samples, "rindle_tails_spilled_total") == {"": 1}
        appends = client.answers["PATCH", 204] + client.answers["PATCH", 409] + client.answers["PATCH", 410]
        appends += client.answers["PATCH", 460] + client.answers["PATCH", 503] + 10  # ... and POSTs with a body
        assert counts(samples, "rindle_patch_duration_seconds_count") == {"": appends}
        # Two parts and the last of the large upload, and an object for each of the three that are small.
        assert counts(samples, "rindle_part_upload_seconds_count") == {"{outcome=done,store=file}": 6}
        calls = counts(samples, "rindle_store_operation_seconds_count")
        assert calls["{operation=create_multipart,store=file}"] == 1
        assert calls["{operation=put_part,store=file}"] == 3
        assert calls["{operation=complete_multipart,store=file}"] == 1
        assert calls["{operation=put,store=file}"] == 5  # the small ones, what was joined, and a tail
        assert counts(samples, "rindle_store_errors_total") == {}
        assert counts(samples, "rindle_active_patches") == {}
        assert counts(samples, "rindle_fence_rejections_total") == {}
        assert counts(samples, "rindle_reaper_items_total") == {"{kind=expired,outcome=done}": 1}
        assert samples["rindle_reaper_last_success_timestamp_seconds"] > 1.7e9
        (built,) = counts(samples, "rindle_build_info")
        assert built == "{version=0.1.0}"

    async def events(self, server: RunningServer, kind: str) -> list[int]:
        rows = await server.parts.database.read(
            text("SELECT count(*) AS n FROM rindle_outbox WHERE type = :kind"), {"kind": kind}
        )
        return [row.n for row in rows]

    async def test_of_what_is_under_way(self, start_server: StartServer) -> None:
        server = await start_server(metrics=True, part_size=PART, handover_timeout="50ms")
        client = Tally(server)
        upload = await client.create(2 * PART)
        async with client.connect() as connection:
            await connection.begin_patch(upload, 0, length=2 * PART)
            await connection.send(bytes(PART + 7))
            await server.tap.took(PART + 7)
            await server.parts.engine.measure()
            samples = await client.scrape()
            assert samples["rindle_active_patches"] == 1
            assert samples["rindle_buffered_bytes"] >= 7
            assert samples["rindle_bytes_received_total{protocol=tus}"] >= PART  # told at the end of each part
            assert samples["rindle_patch_duration_seconds_count"] == 0

            while (await client.head(upload)).offset != PART:
                pass  # the part is still being stored
            busy = await client.patch(upload, PART, b"x")
            assert (busy.status, busy.code) == (423, "upload_locked")
            assert (await client.scrape())["rindle_lock_wait_seconds_count"] == 1
        await server.tap.ended_all(client.answers.total() + 3)  # two scrapes, and the PATCH that was cut off
        await server.parts.engine.measure()
        samples = await client.scrape()
        assert samples["rindle_active_patches"] == 0
        assert samples["rindle_buffered_bytes"] == 0
        assert samples["rindle_tail_bytes"] == 7
        assert samples["rindle_tail_disk_free_bytes"] > 0
        assert samples["rindle_bytes_received_total{protocol=tus}"] == PART + 7

    async def test_of_writers_that_met_another(self, start_server: StartServer) -> None:
        server = await start_server(metrics=True)
        client = Tally(server)
        row = await server.find(await client.create(5))
        await server.parts.repository.commit(row, replace(row, untidy=True))
        with pytest.raises(StaleUploadError):
            await server.parts.repository.commit(row, replace(row, untidy=True))
        assert (await client.scrape())["rindle_fence_rejections_total"] == 1

    async def test_of_uploads_that_go_back(self, start_server: StartServer) -> None:
        server = await start_server(metrics=True, allow_rewind=True)
        client = Tally(server)
        upload = await client.create(10, body=b"hello")
        remove(await tail_of(server, upload))
        assert (await client.patch(upload, 5, b"world")).status == 409
        samples = await client.scrape()
        assert samples["rindle_rewinds_total"] == 1
        assert samples["rindle_tail_missing_total{reason=missing}"] == 1
        assert counts(samples, "rindle_uploads_terminated_total") == {}

    async def test_of_parts_that_cannot_be_stored(self, start_server: StartServer) -> None:
        async def fail(operation: str, key: str) -> None:
            if operation in {"put", "put_part"}:
                raise StoreUnavailableError("the connection was lost", store="test", key=key)

        server = await start_server(metrics=True, change=faulty(fail))
        client = Tally(server)
        assert (await client.post(("Upload-Length", "5"), OCTETS, body=b"hello")).status == 503
        assert counts(await client.scrape(), "rindle_part_upload_seconds_count") == {"{outcome=failed,store=file}": 1}

    async def test_of_what_the_store_refuses(self, start_server: StartServer) -> None:
        server = await start_server(metrics=True)
        with pytest.raises(NotFoundError):
            await server.parts.store.head("nowhere")
        samples = await Tally(server).scrape()
        assert counts(samples, "rindle_store_errors_total") == {"{error=NotFoundError,operation=head,store=file}": 1}

    async def test_go_on_without_a_database(self, start_server: StartServer) -> None:
        server = await start_server(metrics=True)
        client = Tally(server)
        upload = await client.create(5)
        async with database_away(server):
            assert (await client.head(upload)).status == 423
            assert (await client.post(("Upload-Length", "5"))).status == 503
            samples = await client.scrape()
        assert samples["rindle_errors_total{code=database_unavailable}"] == 2
        assert samples["rindle_uploads_created_total{protocol=tus,store=file}"] == 1

    async def test_are_there_before_the_start_and_when_it_fails(self, tmp_path: Path) -> None:
        (tmp_path / "data").touch()
        app = create_app(Settings(data=tmp_path / "data", metrics=True))
        async with serving_host(app, lifespan="off") as client:
            assert (await client.request("POST", "/files", [("Upload-Length", "5")])).status == 500
            samples = parse(await scrape(client))
        assert counts(samples, "rindle_errors_total") == {"{code=configuration_error}": 1}

    async def test_are_not_told_unless_they_are_wanted(self, server: RunningServer) -> None:
        assert (await server.client.request("GET", "/metrics")).status == 404

    async def test_are_not_told_where_the_uploads_are_if_they_have_a_port(self, start_server: StartServer) -> None:
        server = await start_server(metrics=True, metrics_port=1)
        assert (await server.client.request("GET", "/metrics")).status == 404

    async def test_are_read_and_never_written(self, start_server: StartServer) -> None:
        server = await start_server(metrics=True)
        assert (await server.client.request("HEAD", "/metrics")).status == 200
        assert (await server.client.request("POST", "/metrics", body=b"")).status == 405


def faulty(before: Any) -> Any:
    def change(parts: Components) -> Components:
        return rebuild(parts, store=FaultyStore(parts.store, before=before))

    return change


class TestRequestIds:
    @pytest.mark.parametrize("given", ["a", "req-1.2_3~4:5/6+7=8@9", "x" * 64])
    async def test_one_that_is_sane_comes_back(self, server: RunningServer, given: str) -> None:
        for response in (
            await server.client.request("OPTIONS", "/files", [("X-Request-ID", given)]),
            await server.client.request("HEAD", "/files/nowhere", [("X-Request-ID", given)]),
            await server.client.request("GET", "/nowhere", [("X-Request-ID", given)]),
        ):
            assert response.all("x-request-id") == [given]

    @pytest.mark.parametrize(
        "given",
        [[""], ["a b"], ["x" * 65], ["a\x9b31m"], ["caf\xe9"], ['"'], ["a;b"], ["one", "two"], ["same", "same"]],
    )
    async def test_any_other_is_replaced(self, server: RunningServer, given: list[str]) -> None:
        headers = [("X-Request-ID", value) for value in given]
        seen = {(await server.client.request("OPTIONS", "/files", headers)).headers["x-request-id"] for _ in range(3)}
        assert len(seen) == 3
        assert all(re.fullmatch("[0-9a-f]{16}", made) for made in seen)

    async def test_pages_may_read_it(self, server: RunningServer) -> None:
        response = await server.client.request("HEAD", "/files/x", [("Origin", "https://a.example")])
        assert "X-Request-ID" in response.headers["access-control-expose-headers"].split(", ")


class Log:
    """What a process that is rindle's own would write."""

    def __init__(self) -> None:
        self.streams = {"json": io.StringIO(), "console": io.StringIO()}

    @property
    def text(self) -> str:
        return "".join(stream.getvalue() for stream in self.streams.values())

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.streams["json"].getvalue().splitlines()]

    def of(self, request_id: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line.get("request_id") == request_id]


@pytest.fixture
def log() -> Iterator[Log]:
    """Everything that a process says whose level is debug, in both formats."""
    log = Log()
    handlers = []
    for name, formatter in (("json", logs.JsonFormatter()), ("console", logs.ConsoleFormatter())):
        handler = logging.StreamHandler(log.streams[name])
        handler.setFormatter(formatter)
        handler.addFilter(logs.RequestFilter())
        handlers.append(handler)
    root, ours = logging.getLogger(), logging.getLogger("rindle")
    ours.setLevel(logging.DEBUG)
    for handler in handlers:
        root.addHandler(handler)
    yield log
    ours.setLevel(logging.NOTSET)
    for handler in handlers:
        root.removeHandler(handler)


class TestLog:
    async def test_one_line_for_each_request(self, server: RunningServer, log: Log) -> None:
        upload = await server.client.create(10, ("X-Request-ID", "making"))
        await server.client.patch(upload, 0, b"hello", ("X-Request-ID", "adding"))
        await server.client.patch(upload, 0, b"hello", ("X-Request-ID", "wrong"))
        await server.client.request("GET", "/nowhere", [("X-Request-ID", "nothing")])
        await server.tap.ended_all(4)
        access = {line["request_id"]: line for line in log.lines if line["logger"] == "rindle.access"}
        assert list(access) == ["making", "adding", "wrong", "nothing"]
        assert {line["level"] for line in access.values()} == {"info"}
        said = ("method", "status", "code", "protocol", "bytes_received", "upload_id")
        assert {name: tuple(line.get(member) for member in said) for name, line in access.items()} == {
            "making": ("POST", 201, None, "tus", 0, id_of(upload)),
            "adding": ("PATCH", 204, None, "tus", 5, id_of(upload)),
            "wrong": ("PATCH", 409, "offset_mismatch", "tus", 0, id_of(upload)),
            "nothing": ("GET", 404, None, "tus", 0, None),
        }
        assert all(line["duration_s"] >= 0 for line in access.values())

    async def test_an_error_has_its_code_and_its_level(self, start_server: StartServer, log: Log) -> None:
        async def refuse(operation: str, key: str) -> None:
            if operation == "put":
                raise PermissionDeniedError("not allowed", store="test", key=key)

        server = await start_server(change=faulty(refuse))
        created = await server.client.post(("Upload-Length", "5"), ("X-Request-ID", "a"), OCTETS, body=b"hello")
        upload = id_of(created.location)
        await server.client.patch(created.location, 3, b"", ("X-Request-ID", "b"))
        async with database_away(server):
            await server.client.request("HEAD", created.location, [("X-Request-ID", "c")])
        found = [
            (line["request_id"], line["upload_id"], line["code"], line["level"])
            for line in log.lines
            if line["logger"] == "rindle.asgi"
        ]
        assert found == [
            ("a", upload, "store_permission_denied", "error"),
            ("b", upload, "offset_mismatch", "info"),
            ("c", upload, "database_unavailable", "warning"),
        ]

    async def test_what_tasks_of_a_request_say_is_the_requests(self, start_server: StartServer, log: Log) -> None:
        server = await start_server()
        upload = await server.client.create(10, body=b"hello")
        remove(await tail_of(server, upload))
        await server.client.patch(upload, 5, b"world", ("X-Request-ID", "mine"))
        (line,) = [line for line in log.of("mine") if line["logger"] == "rindle.uploads"]
        assert (line["level"], line["upload_id"]) == ("error", id_of(upload))

    async def test_what_belongs_to_no_request_says_none(self, server: RunningServer, log: Log) -> None:
        await server.client.create(5)
        async with database_away(server):
            with pytest.raises(Exception, match="database"):
                await server.parts.reaper.run()
            logging.getLogger("rindle.reaper").warning("a round failed")
        (line,) = [line for line in log.lines if line["message"] == "a round failed"]
        assert "request_id" not in line
        assert "upload_id" not in line

    async def test_an_error_that_nobody_foresaw_is_told_whole(self, start_server: StartServer, log: Log) -> None:
        async def fail(_: Request) -> str:
            raise ZeroDivisionError("of the host")

        server = await start_server(metrics=True, authorize=fail)
        client = Tally(server)
        response = await client.post(("Upload-Length", "5"), ("X-Request-ID", "bad"))
        assert (response.status, response.code) == (500, "internal_error")
        (line,) = [line for line in log.of("bad") if line["logger"] == "rindle.asgi"]
        assert (line["level"], line["code"]) == ("error", "internal_error")
        assert line["exception"].endswith("ZeroDivisionError: of the host")
        assert (await client.scrape())["rindle_errors_total{code=internal_error}"] == 1

    async def test_a_code_of_the_hosts_is_no_label(self, start_server: StartServer, log: Log) -> None:
        class OfTheHostError(NotAuthenticatedError):
            code = "user-4711-is-not-paid-for"

        async def refuse(_: Request) -> str:
            raise OfTheHostError

        server = await start_server(metrics=True, authorize=refuse)
        client = Tally(server)
        assert (await client.post(("Upload-Length", "5"))).code == OfTheHostError.code
        samples = await client.scrape()
        assert counts(samples, "rindle_errors_total") == {"{code=other}": 1}
        assert any(line.get("code") == OfTheHostError.code for line in log.lines)


async def test_a_request_that_is_taken_over_counts_as_one(start_server: StartServer, log: Log) -> None:
    server = await start_server(metrics=True, change=quickly)
    client = Tally(server)
    upload = await client.create(10)
    async with client.connect() as stalled:
        await stalled.begin_patch(upload, 0, ("X-Request-ID", "stalled"), length=10)
        await stalled.send(b"hello")
        await server.tap.took(5)
        await take_over(client, upload, b"helloworld", {0, 5})
        client.note("PATCH", await stalled.read_response())
        samples = await client.scrape()
    assert samples["rindle_errors_total{code=upload_interrupted}"] == 1
    assert samples["rindle_bytes_received_total{protocol=tus}"] == 10
    (access,) = [line for line in log.of("stalled") if line["logger"] == "rindle.access"]
    assert (access["status"], access["code"], access["bytes_received"]) == (423, "upload_interrupted", 5)


@contextmanager
def away(folder: Path) -> Iterator[None]:
    """While the block runs, something else stands where the folder was."""
    aside = folder.rename(folder.with_name("aside"))
    folder.touch()
    yield
    folder.unlink()
    aside.rename(folder)


async def test_nothing_tells_a_key_a_token_or_a_path(start_server: StartServer, log: Log, tmp_path: Path) -> None:
    """Secrets are planted wherever a request, a row or an error can bring one; none may be in a log line or a label."""
    failing: type[ObjectStoreError] | None = None

    async def fail(operation: str, key: str) -> None:
        if failing is not None and operation not in {"list_page", "sweep"}:
            raise failing(f"{operation} of {key} failed", store="test", key=key)

    async def authorize(request: Request) -> str:
        if request.headers.get("Authorization") != "Bearer planted-token":
            raise NotAuthenticatedError
        return "planted-owner"

    server = await start_server(
        metrics=True,
        part_size=PART,
        change=faulty(fail),
        authorize=authorize,
        key_prefix="planted-prefix",
        publish_to="planted-folder/{filename}",
        tails=tmp_path / "planted-tails",
    )
    name = ("Upload-Metadata", "filename cGxhbnRlZC1uYW1l,cGxhbnRlZC1rZXk= cGxhbnRlZA==")
    secrets = [("Authorization", "Bearer planted-token"), ("Cookie", "session=planted-cookie"), name]
    secrets += [("X-Request-ID", "planted request"), ("Referer", "https://planted.example/"), ("X-Key", "planted-key")]

    async def ask(method: str, target: str, *headers: tuple[str, str], body: bytes | None = None) -> Response:
        sent = [TUS, OCTETS, *secrets, *headers]
        return await server.client.request(method, f"{target}?token=planted-query", sent, body, tus=False)

    whole = await ask("POST", "/files", ("Upload-Length", "5"), body=b"hello")
    assert whole.status == 201
    begun = (await ask("POST", "/files", ("Upload-Length", str(3 * PART)), body=bytes(PART + 5))).location
    row = await server.find(begun)
    assert row.tail is not None
    assert row.multipart is not None
    names = [row.tail.name, row.multipart.multipart_id, (await server.find(whole.location)).key or "planted"]
    for method in ("GET", "HEAD", "PATCH", "DELETE", "POST"):
        await ask(method, "/files/planted-id", ("Upload-Offset", "5"))
        await ask(method, "/planted/path")
        await server.client.request(method, begun, [("Authorization", "Bearer planted-guess")])
    await ask("PATCH", begun, ("Upload-Offset", "1"), body=b"planted")
    await ask("PATCH", begun, ("Upload-Offset", "planted"), body=b"planted")
    await ask("PATCH", begun, ("Upload-Offset", str(PART + 5)), ("Upload-Checksum", "planted planted"), body=b"planted")
    for kind in (PermissionDeniedError, StoreUnavailableError, ObjectStoreError):
        failing = kind
        await ask("PATCH", begun, ("Upload-Offset", str(PART + 5)), body=bytes(PART))
        await ask("POST", "/files", ("Upload-Length", "5"), body=b"hello")
        await spill_idle(server.parts.engine._storage, server.parts.engine._leases, timedelta(0))
    failing = None
    async with database_away(server):
        await ask("HEAD", begun)
    piece = (await ask("POST", "/files", ("Upload-Length", "5"), ("Upload-Concat", "partial"), body=b"hello")).location
    names.append((await server.find(piece)).key or "planted")
    await server.parts.store.delete(names[-1])
    assert (await ask("POST", "/files", ("Upload-Concat", f"final;{piece}"))).status == 410
    folder = tmp_path / "planted-tails" / "tus"
    with away(folder):
        assert (await ask("PATCH", begun, ("Upload-Offset", str(PART + 5)), body=b"planted")).status == 503
    (folder / row.tail.name).write_bytes(b"")
    assert (await ask("PATCH", begun, ("Upload-Offset", str(PART + 5)), body=b"planted")).status == 410
    await server.parts.reaper.run()

    codes = {line.get("code") for line in log.lines}
    assert codes >= {"not_authenticated", "store_permission_denied", "store_error", "tus_tail_missing"}
    for said in (log.text, await scrape(server.client)):
        ours = "\n".join(line for line in said.splitlines() if "planted" in line or any(n in line for n in names))
        assert not ours
