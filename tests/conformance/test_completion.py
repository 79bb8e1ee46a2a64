"""From the last byte to the object: told only when it stands, and driven until it does."""

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
from typing_extensions import override

from rindle.bootstrap import Components
from rindle.db.repository import SqlUploadRepository
from rindle.objectstore.errors import ObjectStoreError, PermissionDeniedError, StoreFullError, StoreUnavailableError
from rindle.reaper.report import Chore
from rindle.testing.faults import FaultyStore
from rindle.uploads.model import EventType, Part, Upload, UploadState
from tests.serving import RunningServer, StartServer, rebuild

PART = 64 * 1024


class Failing:
    """Makes an operation of the store fail while there is an error."""

    def __init__(self, operation: str, error: ObjectStoreError, *, after: bool = False) -> None:
        self.error: ObjectStoreError | None = error
        self._operation = operation
        self._after = after

    async def __call__(self, operation: str, _key: str) -> None:
        if operation == self._operation and self.error is not None:
            raise self.error

    def change(self, parts: Components) -> Components:
        store = FaultyStore(parts.store, **{"after" if self._after else "before": self})
        return rebuild(parts, store=store)


async def head_says_complete(server: RunningServer, upload: str) -> bool:
    found = await server.client.head(upload)
    assert found.status in {200, 423}
    return found.status == 200 and found.headers["upload-offset"] == found.headers["upload-length"]


@pytest.mark.invariant("I6", "I7")
@pytest.mark.parametrize(
    "error",
    [StoreFullError("no room", store="test"), PermissionDeniedError("no", store="test")],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("size", [10, PART, 2 * PART + 5])
@pytest.mark.parametrize("asking", ["HEAD", "PATCH"])
async def test_case_90_an_object_that_could_not_be_made_is_made_when_somebody_asks(
    start_server: StartServer, error: ObjectStoreError, size: int, asking: str
) -> None:
    failing = Failing("complete_multipart" if size > PART else "put", error)
    server = await start_server(change=failing.change, part_size=PART)
    content = random.Random(90).randbytes(size)
    upload = await server.client.create(size)
    assert (await server.client.patch(upload, 0, content)).status in {503, 507}
    assert not await head_says_complete(server, upload)
    assert await server.events(upload) == ["created"]
    failing.error = None
    row = await server.find(upload)
    if asking == "PATCH" or row.state is UploadState.ACTIVE:
        assert (await server.client.patch(upload, row.offset, content[row.offset :])).status == 204
    assert await head_says_complete(server, upload)
    assert await server.read_object(upload) == content
    assert await server.events(upload) == ["created", "finished"]


@pytest.mark.invariant("I7")
async def test_an_object_that_could_not_be_made_is_made_without_anybody_asking(start_server: StartServer) -> None:
    failing = Failing("complete_multipart", StoreFullError("no room", store="test"))
    server = await start_server(change=failing.change, part_size=PART)
    upload = await server.client.create(2 * PART)
    assert (await server.client.patch(upload, 0, bytes(2 * PART))).status == 507
    assert (await server.parts.reaper.run()).failed == 1
    failing.error = None
    assert (await server.parts.reaper.run())[Chore.UNFINISHED].done == 0
    await server.change_row(upload, "retry_at = state_changed_at")
    assert (await server.parts.reaper.run())[Chore.UNFINISHED].done == 1
    assert await server.read_object(upload) == bytes(2 * PART)
    assert await server.events(upload) == ["created", "finished"]


@pytest.mark.invariant("I7", "I8", "I21")
@pytest.mark.parametrize("size", [10, 2 * PART + 5])
async def test_case_92_an_object_whose_making_was_not_answered_is_made_once(
    start_server: StartServer, size: int
) -> None:
    operation = "complete_multipart" if size > PART else "put"
    failing = Failing(operation, StoreUnavailableError("lost", store="test"), after=True)
    server = await start_server(change=failing.change, part_size=PART)
    content = random.Random(92).randbytes(size)
    upload = await server.client.create(size)
    first = await server.client.patch(upload, 0, content)
    failing.error = None
    row = await server.find(upload)
    if row.state is not UploadState.COMPLETE:
        assert first.status == 503
        assert (await server.client.patch(upload, row.offset, content[row.offset :])).status == 204
    assert await head_says_complete(server, upload)
    assert await server.read_object(upload) == content
    assert await server.events(upload) == ["created", "finished"]
    objects = [meta.key async for meta in server.parts.store.list()]
    assert objects == [(await server.find(upload)).key]


@pytest.mark.invariant("I2", "I6", "I11")
async def test_case_93_parts_that_vanished_are_told_and_never_called_complete(start_server: StartServer) -> None:
    failing = Failing("complete_multipart", StoreFullError("no room", store="test"))
    server = await start_server(change=failing.change, part_size=PART)
    upload = await server.client.create(2 * PART)
    assert (await server.client.patch(upload, 0, bytes(2 * PART))).status == 507
    row = await server.find(upload)
    assert row.multipart is not None
    await server.parts.store.abort_multipart(row.multipart)
    failing.error = None
    for _ in range(2):
        assert (await server.client.head(upload)).status == 410
    assert (await server.client.patch(upload, 2 * PART, b"")).status == 410
    assert await server.events(upload) == ["created", "failed"]
    await server.parts.reaper.run()
    assert (await server.find(upload)).state is UploadState.FAILED
    assert server.files() == {}


class HeadMeetsCommit(SqlUploadRepository):
    """Lets somebody look just after all bytes were committed, and keeps them looking until the writer has gone on."""

    look: Callable[[], Coroutine[Any, Any, object]]
    looking: asyncio.Task[object] | None = None

    def __init__(self, parts: Components) -> None:
        settings = parts.settings
        super().__init__(parts.database, lease_ttl=settings.lease_ttl, expires_in=settings.expires_in)
        self.looked = asyncio.Event()
        self.may_look_on = asyncio.Event()
        self.looks = 0

    @override
    async def commit(
        self, before: Upload, after: Upload, *, parts: Sequence[Part] = (), events: Sequence[EventType] = ()
    ) -> Upload:
        row = await super().commit(before, after, parts=parts, events=events)
        if row.state is UploadState.FINALIZING and before.state is UploadState.ACTIVE:
            self.looking = asyncio.create_task(self.look())
            await self.looked.wait()
            # When this returns, the writer goes on; the other one a little later.
            asyncio.get_running_loop().call_later(0.05, self.may_look_on.set)
        return row

    @override
    async def find(self, upload_id: str) -> Upload | None:
        row = await super().find(upload_id)
        if row is not None and row.state is UploadState.FINALIZING and self.looking is not None:
            self.looks += 1
            if self.looks == 2:
                self.looked.set()
                await self.may_look_on.wait()
        return row


@pytest.mark.invariant("I6", "I7")
async def test_a_look_at_the_wrong_moment_does_not_keep_the_object_from_being_made(start_server: StartServer) -> None:
    made: list[HeadMeetsCommit] = []

    def change(parts: Components) -> Components:
        made.append(HeadMeetsCommit(parts))
        return rebuild(parts, repository=made[0])

    server = await start_server(change=change, part_size=PART)
    upload = await server.client.create(2 * PART)
    (repository,) = made
    repository.look = lambda: server.client.head(upload)
    response = await server.client.patch(upload, 0, bytes(2 * PART))
    assert (response.status, response.offset) == (204, 2 * PART)
    assert await server.read_object(upload) == bytes(2 * PART)
    assert repository.looking is not None
    await repository.looking
