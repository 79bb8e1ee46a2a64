"""Every step that a process takes outside itself fails, or is its last; then a client goes on.

For each scenario the steps are counted in a run without faults. Then the scenario runs once for every step and every
kind of fault: the step is not done, or it is done and its answer is lost; the process goes on, or dies there. The
default suite takes every seventh step only, on disk; the long one all of them, and some on a server of S3's API.
"""

import gc
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from rindle.errors import RindleError
from rindle.objectstore.base import MultipartStore
from rindle.objectstore.local import LocalStore
from rindle.objectstore.memory import MemoryStore
from rindle.uploads.checksum import Checksum
from rindle.uploads.commands import ConcatenateUploads, CreateUpload, TerminateUpload
from rindle.uploads.errors import UploadGoneError, UploadNotFoundError
from rindle.uploads.keys import KeyTemplate
from rindle.uploads.model import Upload, UploadState
from tests.s3 import S3Server
from tests.world import OWNER, PART, Process, ProcessDied, Steps, World, error_of, finish, pattern, settle

CONTENT = pattern(3 * PART + 1000)


@dataclass
class Ledger:
    """What a client was told."""

    uploads: dict[str, bytes] = field(default_factory=dict)
    acknowledged: dict[str, int] = field(default_factory=dict)
    terminated: set[str] = field(default_factory=set)

    def tell(self, upload: Upload) -> Upload:
        self.acknowledged[upload.id] = max(self.acknowledged.get(upload.id, 0), upload.offset)
        return upload


Scenario = Callable[[Process, Ledger], Awaitable[None]]


async def create(process: Process, ledger: Ledger, content: bytes, *, partial: bool = False) -> Upload:
    command = CreateUpload(owner=OWNER, length=len(content), partial=partial, concat="partial" if partial else None)
    upload = ledger.tell(await process.engine.create(command))
    ledger.uploads[upload.id] = content
    return upload


async def several_requests(process: Process, ledger: Ledger) -> None:
    """A tail, a part that begins with it, a request that is cut, and the end."""
    upload = await create(process, ledger, CONTENT)
    for end in (1000, PART + 500):
        upload = ledger.tell(await process.append(upload.id, upload.offset, CONTENT[upload.offset : end]))
    with pytest.raises(RindleError):
        await process.append(upload.id, upload.offset, CONTENT[upload.offset :], cut_after=PART)
    upload = ledger.tell(await process.engine.inspect(upload.id, OWNER))
    ledger.tell(await process.append(upload.id, upload.offset, CONTENT[upload.offset :]))


async def tails_in_store(process: Process, ledger: Ledger) -> None:
    """Acknowledged only once they are in the store."""
    await several_requests(process, ledger)


async def spilled(process: Process, ledger: Ledger) -> None:
    """Moved from the disk into the store, twice, and at the end of the process."""
    upload = await create(process, ledger, CONTENT)
    for end in (1000, PART + 500):
        upload = ledger.tell(await process.append(upload.id, upload.offset, CONTENT[upload.offset : end]))
        await process.engine.spill()
    ledger.tell(await process.append(upload.id, upload.offset, CONTENT[upload.offset : PART + 900]))


async def one_request(process: Process, ledger: Ledger) -> None:
    upload = await create(process, ledger, CONTENT)
    ledger.tell(await process.append(upload.id, 0, CONTENT))


async def small(process: Process, ledger: Ledger) -> None:
    """Fits one part: one put, after a tail."""
    upload = await create(process, ledger, CONTENT[:5000])
    upload = ledger.tell(await process.append(upload.id, 0, CONTENT[:2000]))
    ledger.tell(await process.append(upload.id, 2000, CONTENT[2000:5000]))


async def empty(process: Process, ledger: Ledger) -> None:
    await create(process, ledger, b"")


async def with_checksums(process: Process, ledger: Ledger) -> None:
    upload = await create(process, ledger, CONTENT)
    for end in (PART * 2 + 10, len(CONTENT)):
        body = CONTENT[upload.offset : end]
        checksum = Checksum("sha256", sha256(body).digest())
        upload = ledger.tell(await process.append(upload.id, upload.offset, body, checksum=checksum))


async def terminated(process: Process, ledger: Ledger) -> None:
    upload = await create(process, ledger, CONTENT)
    upload = ledger.tell(await process.append(upload.id, 0, CONTENT[: PART + 100]))
    await process.engine.terminate(TerminateUpload(upload_id=upload.id, owner=OWNER))
    ledger.terminated.add(upload.id)


async def concatenated(process: Process, ledger: Ledger) -> None:
    pieces = [CONTENT[:PART], CONTENT[PART : PART + 300], CONTENT[PART + 300 :]]
    sources = []
    for piece in pieces:
        upload = await create(process, ledger, piece, partial=True)
        ledger.tell(await process.append(upload.id, 0, piece))
        sources.append(upload.id)
    upload = await process.engine.concatenate(ConcatenateUploads(owner=OWNER, sources=sources, concat="final;a b c"))
    ledger.uploads[upload.id] = CONTENT
    ledger.tell(upload)


async def published(process: Process, ledger: Ledger) -> None:
    """Under the name of the file, which the second upload finds taken."""
    for content in (CONTENT[:1000], CONTENT):
        upload = await create(process, ledger, content)
        ledger.tell(await process.append(upload.id, 0, content))


SCENARIOS: list[Scenario] = [
    several_requests,
    tails_in_store,
    spilled,
    one_request,
    small,
    empty,
    with_checksums,
    terminated,
    concatenated,
    published,
]
OPTIONS: dict[Scenario, dict[str, Any]] = {
    tails_in_store: {"tails_in_store": True},
    spilled: {"spill_after": timedelta(0)},
    published: {"publish_to": KeyTemplate("published/{filename}", prefix="uploads", usecase="test")},
}
# Where no copy is sure not to replace anything.
PUBLISHED_BY_ID = {"publish_to": KeyTemplate("published/{id}", prefix="uploads", usecase="test")}
FAULTS = ["fails before", "fails after", "dies before", "dies after"]


@pytest.fixture
async def make_store(request: pytest.FixtureRequest) -> AsyncIterator[Callable[[Path], MultipartStore]]:
    if request.param == "local":
        yield LocalStore
    elif request.param == "memory":
        yield lambda _: MemoryStore()
    else:
        server: S3Server = request.getfixturevalue(request.param)
        bucket = await server.new_bucket()
        prefixes: list[str] = []

        def make(folder: Path) -> MultipartStore:
            prefixes.append(folder.parent.name)
            return server.store(bucket, prefixes[-1], min_part_size=PART, attempts=1)

        yield make
        async with server.store(bucket) as whole:
            assert [multipart async for multipart in whole.list_multiparts()] == []
            assert {meta.key.partition("/")[0] async for meta in whole.list()} <= set(prefixes)


@pytest.fixture
async def make_world(
    tmp_path: Path, sqlite_template: Path, make_store: Callable[[Path], MultipartStore]
) -> AsyncIterator[Callable[[], World]]:
    worlds: list[World] = []

    def make() -> World:
        folder = tmp_path / str(len(worlds))
        folder.mkdir()
        (folder / "rindle.db").write_bytes(sqlite_template.read_bytes())
        worlds.append(World(folder, f"sqlite:///{folder / 'rindle.db'}", make_store(folder / "objects")))
        return worlds[-1]

    yield make
    for world in worlds:
        await world.aclose()


@pytest.mark.invariant("I1", "I2", "I3", "I5", "I6", "I7", "I10", "I11", "I21")
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
@pytest.mark.parametrize(
    ("make_store", "stride"),
    [
        pytest.param("local", 7, id="local, some steps"),
        pytest.param("local", 1, id="local, every step", marks=pytest.mark.long),
        pytest.param("memory", 1, id="memory, every step", marks=pytest.mark.long),
        pytest.param("ceph", 7, id="S3, some steps", marks=pytest.mark.long),
    ],
    indirect=["make_store"],
)
async def test_whatever_step_fails_or_is_the_last_nothing_acknowledged_is_lost_or_bent(
    make_world: Callable[[], World], scenario: Scenario, fault: str, stride: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, logger="rindle")  # records hold frames, and those the files of a dead process
    counted = Steps()
    world = make_world()
    await check(world, await run(world, scenario, counted))
    gc.freeze()  # what is alive now need not be looked at each time below
    kind, when = fault.split()
    first = 1 + FAULTS.index(fault) % stride  # every kind of fault looks at steps of its own
    for number in range(first, len(counted.taken) + 1, stride):
        world = make_world()
        steps = Steps(fail_at=number, when=when, error=None if kind == "dies" else error_of)
        ledger = await run(world, scenario, steps)
        gc.collect()  # what a dead process had open is closed, and its locks are free
        try:
            await check(world, ledger)
        except BaseException as error:
            error.add_note(f"step {number} of {len(counted.taken)}, {steps.failed}: {fault}; steps: {steps.taken}")
            raise


async def run(world: World, scenario: Scenario, steps: Steps) -> Ledger:
    ledger = Ledger()
    options = OPTIONS.get(scenario, {})
    if "publish_to" in options and not world.store.capabilities.copy_create:
        options = PUBLISHED_BY_ID
    async with world.process(steps, **options) as process:
        try:
            await scenario(process, ledger)
        except (RindleError, ProcessDied):
            assert steps.failed is not None, "only the fault may end a scenario"
    return ledger


async def check(world: World, ledger: Ledger) -> None:
    async with world.process() as process:
        for upload_id, content in ledger.uploads.items():
            if upload_id in ledger.terminated:
                with pytest.raises(UploadGoneError):
                    await process.engine.inspect(upload_id, OWNER)
            else:
                await check_upload(world, process, ledger, upload_id, content)
    await settle(world)
    await check_rows(world)
    await world.expire_everything()
    await settle(world)
    assert await world.leftovers() == []


async def check_upload(world: World, process: Process, ledger: Ledger, upload_id: str, content: bytes) -> None:
    try:
        upload = await process.engine.inspect(upload_id, OWNER)
    except (UploadNotFoundError, UploadGoneError):
        # DELETE may have been done though its answer was lost; nothing else takes an upload away.
        assert await world.count_events(upload_id, "terminated") == 1
        return
    if upload.is_final:
        upload = await process.engine.recover(upload) if upload.state is not UploadState.COMPLETE else upload
    assert upload.offset >= ledger.acknowledged[upload_id]
    upload = await finish(process, upload_id, content)
    assert upload.state is UploadState.COMPLETE
    assert upload.key is not None
    found = await world.store.get(upload.key)
    assert await found.read() == content
    assert await world.count_events(upload_id, "finished") == (0 if upload.partial else 1)


async def check_rows(world: World) -> None:
    """No offset reaches the length before the object stands."""
    query = (
        "SELECT count(*) AS n FROM rindle_uploads WHERE state = 'active'"
        " AND upload_offset = upload_length AND upload_length > 0"
    )
    assert (await world.database.read(text(query)))[0].n == 0
