"""From the key of one attempt to the key that people know: by a copy, once, over nobody else's object."""

import base64
import random

import pytest

from rindle.bootstrap import Components
from rindle.objectstore.errors import ObjectStoreError, StoreFullError
from rindle.objectstore.types import GetOptions
from rindle.reaper.report import Chore
from rindle.testing.faults import FaultyStore
from rindle.uploads.model import UploadState
from tests.http import Client, id_of
from tests.serving import RunningServer, StartServer, rebuild

PART = 64 * 1024
SIZES = [0, 10, 2 * PART + 5]


def said(**pairs: str) -> tuple[str, str]:
    encoded = (f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in pairs.items())
    return "Upload-Metadata", ",".join(encoded)


async def send(client: Client, content: bytes, **metadata: str) -> str:
    """Create an upload and send all of it; its URL."""
    upload = await client.create(len(content), said(**metadata))
    if content:
        assert (await client.patch(upload, 0, content)).status == 204
    return upload


async def keys(server: RunningServer) -> list[str]:
    return [meta.key async for meta in server.parts.store.list()]


@pytest.mark.invariant("I3", "I11", "I21")
@pytest.mark.parametrize("size", SIZES)
async def test_an_object_stands_under_the_key_of_the_template_and_nowhere_else(
    start_server: StartServer, size: int
) -> None:
    server = await start_server(publish_to="{usecase}/{filename}", usecase="films", part_size=PART)
    content = random.Random(size).randbytes(size)
    upload = await send(server.client, content, filename="../My Film.mkv", filetype="video/x-matroska")
    row = await server.find(upload)
    assert (row.state, row.key, row.usecase) == (UploadState.COMPLETE, "films/My_Film.mkv", "films")
    assert await server.read_object(upload) == content
    assert await keys(server) == ["films/My_Film.mkv"]
    assert await server.events(upload) == ["created", "finished"]
    async with await server.parts.store.get("films/My_Film.mkv", GetOptions(head=True)) as found:
        assert found.attributes.content_type == "video/x-matroska"
        assert found.meta.e_tag == row.e_tag


@pytest.mark.parametrize("metadata", [{"filetype": "not a type"}, {"filetype": "text/html\r\nx: y"}, {}])
async def test_what_is_no_media_type_is_not_stored_as_one(start_server: StartServer, metadata: dict[str, str]) -> None:
    server = await start_server(publish_to="{filename}")
    upload = await send(server.client, b"x", name="a.txt", **metadata)
    async with await server.parts.store.get("a.txt", GetOptions(head=True)) as found:
        assert found.attributes.content_type is None
    assert (await server.find(upload)).content_type is None


@pytest.mark.invariant("I8", "I20")
@pytest.mark.parametrize("size", SIZES)
async def test_an_object_that_has_the_key_stays_and_the_upload_gets_its_id_into_its_own(
    start_server: StartServer, size: int
) -> None:
    server = await start_server(publish_to="in/{filename}", part_size=PART)
    await server.parts.store.put("in/a.txt", b"somebody else's")
    content = random.Random(size).randbytes(size)
    upload = await send(server.client, content, filename="a.txt")
    aside = f"in/a.{id_of(upload)}.txt"
    assert (await server.find(upload)).key == aside
    assert await server.read_object(upload) == content
    assert sorted(await keys(server)) == sorted(["in/a.txt", aside])
    found = await server.parts.store.get("in/a.txt")
    assert await found.read() == b"somebody else's"


async def test_with_leave_an_object_replaces_the_one_before(start_server: StartServer) -> None:
    server = await start_server(publish_to="in/{filename}", publish_overwrite=True)
    first = await send(server.client, b"first", filename="a.txt")
    second = await send(server.client, b"second", filename="a.txt")
    assert (await server.find(first)).key == (await server.find(second)).key == "in/a.txt"
    assert await server.read_object(second) == b"second"
    assert await keys(server) == ["in/a.txt"]


async def test_partial_uploads_are_not_published_and_what_they_become_is(start_server: StartServer) -> None:
    server = await start_server(publish_to="whole/{filename}", part_size=PART)
    client = server.client
    partials = []
    for content in (b"x" * PART, b"y"):
        upload = await client.create(len(content), ("Upload-Concat", "partial"), said(filename="part"))
        assert (await client.patch(upload, 0, content)).status == 204
        partials.append(upload)
    assert not any(key.startswith("whole/") for key in await keys(server))
    joins = ("Upload-Concat", "final;" + " ".join(partials))
    answer = await client.post(joins, said(name="a.b"))
    assert answer.status == 201
    assert (await server.find(answer.location)).key == "whole/a.b"
    assert await server.read_object(answer.location) == b"x" * PART + b"y"


class Failing:
    """Makes copies inside the store fail while there is an error, before or after they are done."""

    def __init__(self, error: ObjectStoreError, when: str) -> None:
        self.error: ObjectStoreError | None = error
        self._when = when

    async def __call__(self, operation: str, _key: str) -> None:
        if operation == "copy" and self.error is not None:
            raise self.error

    def change(self, parts: Components) -> Components:
        store = FaultyStore(parts.store, **{self._when: self})
        return rebuild(parts, store=store)


@pytest.mark.invariant("I6", "I7", "I8", "I21")
@pytest.mark.parametrize("standing", ["nothing", "another object"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("size", [10, 2 * PART + 5])
async def test_an_object_whose_publishing_failed_or_was_not_answered_is_published_once(
    start_server: StartServer, size: int, when: str, standing: str
) -> None:
    failing = Failing(StoreFullError("no room", store="test"), when)
    server = await start_server(change=failing.change, publish_to="{filename}", part_size=PART)
    taken = standing != "nothing"
    if taken:
        await server.parts.store.put("a.txt", b"somebody else's")
    content = random.Random(size).randbytes(size)
    upload = await server.client.create(size, said(filename="a.txt"))
    assert (await server.client.patch(upload, 0, content)).status == 507
    assert (await server.find(upload)).state is UploadState.FINALIZING
    assert await server.events(upload) == ["created"]
    failing.error = None
    found = await server.client.head(upload)
    assert (found.status, found.offset) == (200, size)
    key = f"a.{id_of(upload)}.txt" if taken else "a.txt"
    assert (await server.find(upload)).key == key
    assert await server.read_object(upload) == content
    assert sorted(await keys(server)) == sorted({key, "a.txt"})
    assert await server.events(upload) == ["created", "finished"]


@pytest.mark.invariant("I7")
async def test_an_object_that_could_not_be_published_is_published_without_anybody_asking(
    start_server: StartServer,
) -> None:
    failing = Failing(StoreFullError("no room", store="test"), "before")
    server = await start_server(change=failing.change, publish_to="{filename}")
    upload = await server.client.create(5, said(filename="a.txt"))
    assert (await server.client.patch(upload, 0, b"bytes")).status == 507
    failing.error = None
    assert (await server.parts.reaper.run())[Chore.UNFINISHED].done == 1
    assert await server.read_object(upload) == b"bytes"
    assert await keys(server) == ["a.txt"]


@pytest.mark.invariant("I10")
@pytest.mark.parametrize("standing", ["what was published", "another object"])
async def test_terminating_a_complete_upload_removes_what_was_published_but_nobody_elses(
    start_server: StartServer, standing: str
) -> None:
    server = await start_server(publish_to="{filename}", terminate_complete=True)
    upload = await send(server.client, b"bytes", filename="a.txt")
    replaced = standing == "another object"
    if replaced:
        await server.parts.store.put("a.txt", b"later")
    assert (await server.client.delete(upload)).status == 204
    assert await keys(server) == (["a.txt"] if replaced else [])
