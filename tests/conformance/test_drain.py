"""A server that is about to stop takes no more bytes and loses none."""

import asyncio
from collections.abc import Sequence

import pytest
from typing_extensions import override

from rindle.bootstrap import Components
from rindle.db.repository import SqlUploadRepository
from rindle.uploads.model import EventType, Part, Upload
from tests.http import OCTETS, Response
from tests.serving import RunningServer, RunServer, rebuild

PART = 64 * 1024


@pytest.mark.invariant("I1", "I24")
@pytest.mark.parametrize("size", [0, 5, PART, PART + 5])
async def test_case_97_a_drain_ends_bodies_and_keeps_what_arrived(server: RunningServer, size: int) -> None:
    content = b"x" * 3 * PART
    upload = await server.client.create(len(content))
    async with server.client.connect() as connection:
        await connection.begin_patch(upload, 0, length=len(content))
        await connection.send(content[:size])
        await server.tap.took(size)
        server.app.drain()
        response = await connection.read_response()
    assert (response.status, response.code) == (503, "server_draining")
    assert int(response.headers["retry-after"]) > 0
    assert response.headers["connection"] == "close"
    found = await server.client.head(upload)
    assert (found.status, found.offset) == (200, size)
    before = await server.state()
    for refused in (
        await server.client.patch(upload, size, b"x"),
        await server.client.post(("Upload-Length", "5")),
        await server.client.post(("Upload-Length", "5"), OCTETS, body=b"hello"),
    ):
        assert (refused.status, refused.code) == (503, "server_draining")
    assert await server.state() == before
    assert (await server.client.request("OPTIONS", "/files")).status == 204
    assert (await server.client.delete(upload)).status == 204


async def test_health_says_that_a_server_drains(server: RunningServer) -> None:
    ready = await server.client.request("GET", "/readyz", tus=False)
    assert ready.status == 200
    server.app.drain()
    ready = await server.client.request("GET", "/readyz", tus=False)
    assert ready.status == 503
    assert (await server.client.request("GET", "/livez", tus=False)).status == 200


async def read_and_leave(server: RunningServer, upload: str, content: bytes, *, length: int) -> Response:
    async with server.client.connect() as connection:
        await connection.begin_patch(upload, 0, length=length)
        await connection.send(content)
        return await connection.read_response()


@pytest.mark.invariant("I1", "I24")
@pytest.mark.parametrize("size", [5, PART, PART + 5])
async def test_what_a_server_had_when_it_stopped_the_next_one_goes_on_from(run_server: RunServer, size: int) -> None:
    content = bytes(range(256)) * (3 * PART // 256)
    async with run_server(part_size=PART, as_deployed=True) as server:
        upload = await server.client.create(len(content))
        patching = asyncio.create_task(read_and_leave(server, upload, content[:size], length=len(content)))
        await server.tap.took(size)
    response = await patching
    assert (response.status, response.code) == (503, "server_draining")
    async with run_server(part_size=PART) as server:
        assert (await server.client.head(upload)).offset == size
        assert (await server.client.patch(upload, size, content[size:])).offset == len(content)
        assert await server.read_object(upload) == content


class NeverAnswers(SqlUploadRepository):
    """Commits tails, and says so to nobody."""

    committed = False

    @override
    async def commit(
        self, before: Upload, after: Upload, *, parts: Sequence[Part] = (), events: Sequence[EventType] = ()
    ) -> Upload:
        row = await super().commit(before, after, parts=parts, events=events)
        if after.tail != before.tail and not self.committed:
            self.committed = True
            await asyncio.Event().wait()
        return row


def never_answers(parts: Components) -> Components:
    settings = parts.settings
    repository = NeverAnswers(parts.database, lease_ttl=settings.lease_ttl, expires_in=settings.expires_in)
    return rebuild(parts, repository=repository)


async def test_work_that_is_cut_off_at_the_end_loses_nothing_that_was_committed(run_server: RunServer) -> None:
    async with run_server(shutdown_grace="50ms", change=never_answers) as server:
        upload = await server.client.create(10)
        async with server.tap.next_end(), server.client.connect() as connection:
            await connection.begin_patch(upload, 0, length=5)
            await connection.send(b"hello")
            # A client that is gone leaves the work to itself; nothing but the end of the server cuts it off.
            while not (await server.find(upload)).offset:  # noqa: ASYNC110 - a row has no event
                await asyncio.sleep(0.01)
            await server.parts.engine.aclose()
    async with run_server() as server:
        assert (await server.client.head(upload)).offset == 5
        assert (await server.client.patch(upload, 5, b"world")).offset == 10
        assert await server.read_object(upload) == b"helloworld"
