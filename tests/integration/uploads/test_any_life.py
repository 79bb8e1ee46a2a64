"""The engine against a model: whatever clients do and in whatever order, with crashes, lost answers and two nodes.

The model knows what every client was told. What it cannot know (whether a step was done whose answer was lost), it asks
the next process, as a client does with HEAD.
"""

import asyncio
import gc
import logging
import shutil
from collections.abc import Coroutine, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from typing_extensions import override

from rindle.errors import RindleError
from rindle.objectstore.local import LocalStore
from rindle.uploads.checksum import Checksum
from rindle.uploads.commands import CreateUpload, TerminateUpload
from rindle.uploads.errors import (
    ChecksumMismatchError,
    ClientDisconnectedError,
    OffsetMismatchError,
    TailMissingError,
    UploadGoneError,
)
from rindle.uploads.model import UploadState
from tests.world import OWNER, PART, Process, ProcessDied, Steps, World, error_of, finish, pattern, settle

T = TypeVar("T")

CONTENT = pattern(4 * PART)
LENGTHS = (0, 1, 1000, PART - 1, PART, PART + 1, 2 * PART, 3 * PART + 7)
SIZES = (0, 1, 999, PART - 1, PART, PART + 1, 2 * PART + 3)
CHOICE = st.integers(min_value=0, max_value=9)


@dataclass
class Told:
    """What the client of one upload knows."""

    upload_id: str
    length: int | None
    offset: int = 0
    terminating: bool = False


class AnyLife(RuleBasedStateMachine):
    """One process at a time, on one of two nodes that share the store and the database."""

    folder: Path
    template: Path
    tails_in_store = False

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.nodes = [self.folder / "one", self.folder / "two"]
        for node in self.nodes:
            node.mkdir(parents=True)
        database = shutil.copy(self.template, self.folder / "rindle.db")
        self.world = World(self.nodes[0], f"sqlite:///{database}", LocalStore(self.folder / "objects"))
        self.told: list[Told] = []
        self.node = 0
        self.start()

    # Processes

    def run(self, work: Coroutine[Any, Any, T]) -> T | None:
        """What it returns; None if the process died of it, or an injected error ended it."""
        try:
            return self.runner.run(work)
        except ProcessDied:
            pass  # and its frames with it, once this is left
        except RindleError:
            if self.steps.failed is None:
                raise
        finally:
            if self.steps.failed is not None:  # it explains this failure, and no later one
                self.steps.fail_at = self.steps.failed = None
        if self.steps.dead:
            self.stop()
            gc.collect()  # what the dead process had open is closed, and its locks are free
            self.start()
        return None

    def start(self) -> None:
        self.steps = Steps()
        self.context: AbstractAsyncContextManager[Process] = self.world.process(
            self.steps, node_folder=self.nodes[self.node], tails_in_store=self.tails_in_store
        )
        self.process = self.runner.run(self.context.__aenter__())

    def stop(self) -> None:
        self.runner.run(self.context.__aexit__(None, None, None))

    @rule()
    def restart(self) -> None:
        self.stop()
        self.start()

    @rule(spilled=st.booleans())
    def move(self, *, spilled: bool) -> None:
        """A deployment: another node takes over; the first one spills its tails on the way out, or cannot any more."""
        if spilled:
            self.run(self.process.spill_all())
        self.stop()
        self.runner.run(self.world.end_leases())
        self.node = 1 - self.node
        self.start()

    @rule(after=st.integers(min_value=1, max_value=12), when=st.sampled_from(["before", "after"]), dies=st.booleans())
    def arm(self, after: int, when: str, *, dies: bool) -> None:
        """One of the next steps outside fails, or is the last one."""
        self.steps.fail_at = len(self.steps.taken) + after
        self.steps.when = when
        self.steps.error = None if dies else error_of
        self.steps.failed = None

    # Clients

    @precondition(lambda self: len(self.told) < 4)
    @rule(length=st.sampled_from([None, *LENGTHS]))
    def create(self, length: int | None) -> None:
        upload = self.run(self.process.engine.create(CreateUpload(owner=OWNER, length=length)))
        if upload is not None:
            self.told.append(Told(upload.id, length, upload.offset))

    @precondition(lambda self: self.told)
    @rule(number=CHOICE, size=st.sampled_from(SIZES), cut=st.sampled_from([None, 0, 5, PART]), check=st.booleans())
    def append(self, number: int, size: int, cut: int | None, *, check: bool) -> None:
        told = self.told[number % len(self.told)]
        end = len(CONTENT) - 1 if told.length is None else told.length
        body = CONTENT[told.offset : min(told.offset + size, end)]
        checksum = Checksum("sha256", sha256(body).digest()) if check else None
        self.run(self._append(told, body, cut=cut, checksum=checksum))

    @precondition(lambda self: self.told)
    @rule(number=CHOICE)
    def append_what_is_not_meant(self, number: int) -> None:
        told = self.told[number % len(self.told)]
        wrong = Checksum("sha256", bytes(32))
        body = CONTENT[told.offset : told.offset + 1]
        if not told.terminating and (told.length is None or told.offset < told.length):
            self.run(self._append(told, body, checksum=wrong, refused=True))

    @precondition(lambda self: self.told)
    @rule(number=CHOICE)
    def declare(self, number: int) -> None:
        told = self.told[number % len(self.told)]
        if told.length is None:
            self.run(self._append(told, CONTENT[told.offset : told.offset + 10], length=told.offset + 10))

    @precondition(lambda self: self.told)
    @rule(number=CHOICE)
    def terminate(self, number: int) -> None:
        told = self.told[number % len(self.told)]
        if told.length is None or told.offset < told.length:
            told.terminating = True
            self.run(self._terminate(told))

    # What goes on without them

    @rule()
    def reap(self) -> None:
        self.run(self.process.reaper.run())

    @rule()
    def spill(self) -> None:
        self.run(self.process.spill_all())

    # What must hold

    @invariant()
    def what_was_told_holds(self) -> None:
        if self.steps.fail_at is not None and self.steps.failed is None and self.steps.fail_at > len(self.steps.taken):
            return  # looking would trip the fault that waits for a client
        for told in self.told:
            self.run(self._look(told))

    @override
    def teardown(self) -> None:
        self.steps.fail_at = None
        self.stop()
        try:
            self.runner.run(self._finish_all())
        finally:
            self.runner.run(self.world.aclose())
            self.runner.close()

    async def _append(
        self,
        told: Told,
        body: bytes,
        *,
        cut: int | None = None,
        checksum: Checksum | None = None,
        length: int | None = None,
        refused: bool = False,
    ) -> None:
        try:
            upload = await self.process.append(
                told.upload_id, told.offset, body, cut_after=cut, checksum=checksum, length=length
            )
        except TailMissingError as error:
            if error.reason != "elsewhere" or error.final or self.tails_in_store:
                raise AssertionError from error
            return
        except OffsetMismatchError as error:
            if error.expected <= told.offset:
                raise AssertionError from error
            return  # an answer was lost, and the bytes came all the same
        except UploadGoneError:
            assert told.terminating
            return
        except ChecksumMismatchError:
            assert refused
            return
        except ClientDisconnectedError:
            assert cut is not None
            return  # the next look tells what was kept
        assert not refused
        assert upload.offset == told.offset + len(body)
        told.offset = upload.offset
        told.length = upload.length

    async def _terminate(self, told: Told) -> None:
        try:
            await self.process.engine.terminate(TerminateUpload(upload_id=told.upload_id, owner=OWNER))
        except UploadGoneError:
            return

    async def _look(self, told: Told) -> None:
        try:
            upload = await self.process.engine.inspect(told.upload_id, OWNER)
        except UploadGoneError:
            assert told.terminating
            return
        except TailMissingError as error:
            if error.reason != "elsewhere" or error.final or self.tails_in_store:
                raise AssertionError from error
            return
        assert upload.offset >= told.offset
        assert told.length in (None, upload.length)
        told.offset, told.length = upload.offset, upload.length
        if upload.state is UploadState.COMPLETE:
            assert upload.offset == upload.length
            assert upload.key is not None
            found = await self.world.store.get(upload.key)
            assert await found.read() == CONTENT[: upload.length]

    async def _finish_all(self) -> None:
        await self.world.end_leases()
        for node in self.nodes:
            async with self.world.process(node_folder=node) as process:
                await process.spill_all()
        async with self.world.process() as process:
            for told in self.told:
                try:
                    upload = await process.engine.inspect(told.upload_id, OWNER)
                except UploadGoneError:
                    assert told.terminating
                    continue
                if upload.length is None:
                    upload = await process.append(told.upload_id, upload.offset, b"", length=upload.offset)
                upload = await finish(process, told.upload_id, CONTENT[: upload.length])
                assert upload.key is not None
                assert await (await self.world.store.get(upload.key)).read() == CONTENT[: upload.length]
                assert await self.world.count_events(upload.id, "finished") == 1
        await settle(self.world)
        await self.world.expire_everything()
        await settle(self.world)
        for node in self.nodes:
            async with self.world.process(node_folder=node) as process:
                await process.reaper.run()
            assert list((node / "tus").iterdir()) == []
        assert await self.world.leftovers() == []


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.CRITICAL, logger="rindle")  # records hold frames, and those the files of a dead process
    yield
    gc.unfreeze()


@pytest.mark.timeout(600)
@pytest.mark.invariant("I1", "I2", "I3", "I5", "I6", "I7", "I8", "I10", "I11", "I15", "I20", "I21")
@pytest.mark.parametrize("tails", ["on disk", "in store"])
@pytest.mark.parametrize("lives", [8, pytest.param(150, marks=pytest.mark.long)])
def test_in_any_life_no_byte_is_lost_or_bent(
    tmp_path: Path, sqlite_template: Path, quiet: None, lives: int, tails: str
) -> None:
    gc.freeze()

    class Life(AnyLife):
        folder = tmp_path / "world"
        template = sqlite_template
        tails_in_store = tails == "in store"

    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=lives,
            stateful_step_count=25,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
