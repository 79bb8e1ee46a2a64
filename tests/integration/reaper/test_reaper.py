"""The reaper beside everything that could get in its way: live uploads, other reapers, its own death."""

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from rindle.bootstrap import Components
from rindle.objectstore.base import MultipartStore
from rindle.objectstore.errors import StoreUnavailableError
from rindle.objectstore.types import MultipartOptions, MultipartRef
from rindle.reaper.report import Chore
from rindle.reaper.service import ALL, Reaper, ReaperOptions
from rindle.testing.faults import FaultyStore
from rindle.uploads.ids import new_token, new_upload_id
from rindle.uploads.model import UploadState
from tests.acceptance.process import RINDLE, environment, run_rindle
from tests.http import id_of
from tests.serving import RunningServer, StartServer, rebuild

PART = 64 * 1024
NOW = timedelta(0)
ONE_SIZE = MultipartOptions(part_size=PART)
PAST = "'2000-01-01T00:00:00.000Z'"


def reaper_of(server: RunningServer, *, store: MultipartStore | None = None, **options: object) -> Reaper:
    """A reaper for which everything is old."""
    parts = server.parts
    return Reaper(
        engine=parts.engine,
        store=store or parts.store,
        repository=parts.repository,
        tails=parts.tails,
        options=replace(ReaperOptions(grace=NOW, retention=None), **options),  # type: ignore[arg-type]
    )


async def multiparts(server: RunningServer) -> set[MultipartRef]:
    return {multipart.ref async for multipart in server.parts.store.list_multiparts()}


async def begun(server: RunningServer, size: int = PART + 100) -> str:
    """An upload of which a part and a tail are there."""
    upload = await server.client.create(3 * PART)
    assert (await server.client.patch(upload, 0, bytes(size))).status == 204
    return upload


async def overdue(server: RunningServer, count: int) -> Sequence[str]:
    uploads = [await begun(server) for _ in range(count)]
    for upload in uploads:
        await server.change_row(upload, f"expires_at = {PAST}")
    return uploads


@pytest.fixture
async def server(start_server: StartServer) -> RunningServer:
    return await start_server(part_size=PART)


class TestMultiparts:
    @pytest.mark.invariant("I11")
    async def test_those_without_an_owner_go_and_nobody_elses(self, server: RunningServer) -> None:
        store = server.parts.store
        live = await begun(server)
        dropped = await begun(server)
        await server.client.delete(dropped)
        complete = await server.client.create(1, body=b"x")
        strays = [
            f"uploads/{new_upload_id()}/{new_token()}",
            f"uploads/{id_of(dropped)}/{new_token()}",
            f"uploads/{id_of(complete)}/{new_token()}",
        ]
        foreign = [
            "backups/monday",
            "uploads/readme",
            f"uploads/{new_upload_id()}",
            f"uploads/{new_upload_id()}/part",
            f"uploads/{new_upload_id()}/{new_token()}/more",
            f"uploads/{new_upload_id().upper()}/{new_token()}",
            f"other/{new_upload_id()}/{new_token()}",
        ]
        beside = f"uploads/{id_of(live)}/{new_token()}"
        refs = {key: await store.create_multipart(key, ONE_SIZE) for key in (*strays, *foreign, beside)}
        owned = (await server.find(live)).multipart
        reaper = reaper_of(server)
        assert (await reaper.survey())[Chore.MULTIPARTS].done == len(strays)

        report = await reaper.run()

        assert report[Chore.MULTIPARTS].done == len(strays)
        assert await multiparts(server) == {owned, refs[beside], *(refs[key] for key in foreign)}
        assert (await reaper.run())[Chore.MULTIPARTS].found == 0
        assert (await server.client.patch(live, PART + 100, bytes(2 * PART - 100))).status == 204

    async def test_young_ones_stay(self, server: RunningServer) -> None:
        ref = await server.parts.store.create_multipart(f"uploads/{new_upload_id()}/{new_token()}", ONE_SIZE)
        assert (await reaper_of(server, grace=timedelta(hours=1)).run())[Chore.MULTIPARTS].found == 0
        assert await multiparts(server) == {ref}

    @pytest.mark.parametrize("root", ["", "team/uploads"])
    async def test_under_any_prefix(self, start_server: StartServer, root: str) -> None:
        server = await start_server(part_size=PART, key_prefix=root)
        live = await begun(server)
        own = f"{root}/" if root else ""
        await server.parts.store.create_multipart(f"{own}{new_upload_id()}/{new_token()}", ONE_SIZE)
        foreign = await server.parts.store.create_multipart(f"else/{new_upload_id()}/{new_token()}", ONE_SIZE)
        assert (await reaper_of(server).run())[Chore.MULTIPARTS].done == 1
        assert await multiparts(server) == {(await server.find(live)).multipart, foreign}

    async def test_one_that_cannot_be_aborted_does_not_stop_the_others(self, server: RunningServer) -> None:
        refs = [
            await server.parts.store.create_multipart(f"uploads/{new_upload_id()}/{new_token()}", ONE_SIZE)
            for _ in range(5)
        ]

        async def fail(operation: str, key: str) -> None:
            if operation == "abort_multipart" and key == refs[2].key:
                raise StoreUnavailableError("no answer", store="test")

        report = await reaper_of(server, store=FaultyStore(server.parts.store, before=fail)).run()

        assert (report[Chore.MULTIPARTS].done, report[Chore.MULTIPARTS].failed, report.failed) == (4, 1, 1)
        assert await multiparts(server) == {refs[2]}


class TestUploads:
    @pytest.mark.invariant("I10")
    async def test_a_multipart_that_somebody_aborted_already_is_no_failure(self, server: RunningServer) -> None:
        (upload,) = await overdue(server, 1)
        multipart = (await server.find(upload)).multipart
        assert multipart is not None
        await server.parts.store.abort_multipart(multipart)

        report = await reaper_of(server).run()

        assert (report[Chore.EXPIRED].done, report.failed) == (1, 0)
        assert (await server.find(upload)).state is UploadState.ABORTED
        assert all(not tally.found for _, tally in await reaper_of(server).run())

    async def test_an_item_that_fails_is_put_off_longer_each_time_and_the_rest_goes_on(
        self, start_server: StartServer
    ) -> None:
        broken: list[str] = []

        async def fail(operation: str, key: str) -> None:
            if operation in {"list_multiparts", "list"} and broken and broken[0] in key:
                raise StoreUnavailableError("no answer", store="test")

        def change(parts: Components) -> Components:
            return rebuild(parts, store=FaultyStore(parts.store, before=fail))

        server = await start_server(change=change, part_size=PART)
        uploads = await overdue(server, 3)
        broken.append(id_of(uploads[1]))
        reaper = reaper_of(server, retry_after=timedelta(hours=1))

        report = await reaper.run()

        assert (report[Chore.EXPIRED].done, report[Chore.EXPIRED].failed) == (2, 1)
        assert [(await server.find(upload)).state for upload in uploads] == [
            UploadState.ABORTED,
            UploadState.ABORTING,
            UploadState.ABORTED,
        ]
        assert all(not tally.found for _, tally in await reaper.run())
        assert (await reaper.survey())[Chore.UNFINISHED].done == 1

        await server.change_row(uploads[1], "retry_at = state_changed_at")
        broken.clear()

        assert (await reaper.run())[Chore.UNFINISHED].done == 1
        assert (await server.find(uploads[1])).state is UploadState.ABORTED

    @pytest.mark.invariant("I4", "I21")
    async def test_reapers_side_by_side_drop_each_upload_once(
        self, start_server: StartServer, sqlite_url: str, tmp_path: Path
    ) -> None:
        store = (tmp_path / "shared").as_uri()
        one = await start_server(part_size=PART, database=sqlite_url, store=store)
        two = await start_server(part_size=PART, database=sqlite_url, store=store)
        uploads = await overdue(one, 12)

        reports = await asyncio.gather(*(reaper_of(server, batch=3).run() for server in (one, two, one, two)))

        # The servers reap in the background too, and may have been there first.
        assert 0 < sum(report[Chore.EXPIRED].done for report in reports) <= len(uploads)
        assert sum(report.failed for report in reports) == 0
        for upload in uploads:
            assert (await one.find(upload)).state is UploadState.ABORTED
            assert await one.events(upload) == ["created", "expired"]
        assert await multiparts(one) == set()

    @pytest.mark.invariant("I3", "I9", "I10")
    async def test_clients_that_append_and_end_and_remove_uploads_meanwhile_are_not_disturbed(
        self, server: RunningServer
    ) -> None:
        stop = asyncio.Event()

        async def reap() -> int:
            failed = 0
            while not stop.is_set():
                failed += (await reaper_of(server).run()).failed
            return failed

        async def client(seed: int) -> None:
            chance = random.Random(seed)
            content = chance.randbytes(2 * PART + seed)
            upload = await server.client.create(len(content))
            offset = 0
            while offset < len(content):
                if chance.random() < 0.3:  # past its time, with somebody just coming
                    await server.change_row(upload, f"expires_at = {PAST}")
                answer = await server.client.patch(upload, offset, content[offset : offset + PART // 2])
                if answer.status == 410:
                    return
                assert answer.status == 204
                assert answer.offset is not None
                offset = answer.offset
            if chance.random() < 0.5:
                assert (await server.client.delete(upload)).status == 403
            assert await server.read_object(upload) == content

        reaping = [asyncio.create_task(reap()) for _ in range(2)]
        await asyncio.gather(*(client(seed) for seed in range(10)))
        stop.set()
        assert sum(await asyncio.gather(*reaping)) == 0
        await reaper_of(server).run()
        states = {upload.state for upload in await server.uploads()}
        assert states <= {UploadState.COMPLETE, UploadState.ABORTED}
        assert await multiparts(server) == set()

    async def test_when_its_time_is_up_it_stops_and_the_next_run_goes_on(self, server: RunningServer) -> None:
        uploads = await overdue(server, 4)
        reaper = reaper_of(server, batch=1, at_once=1, hold=NOW)

        first = await reaper.run(lasts=timedelta(seconds=0.05), rate=50)

        assert first.cut_short
        before = await server.parts.repository.find_reaped()
        rest = await reaper.run()
        assert first[Chore.EXPIRED].done + rest[Chore.EXPIRED].done == len(uploads)
        assert not rest.cut_short
        assert await server.parts.repository.find_reaped() != before

    async def test_old_records_go_with_all_that_belongs_to_them(self, server: RunningServer) -> None:
        old = await server.client.create(2 * PART)
        await server.client.patch(old, 0, bytes(2 * PART))
        young = await server.client.create(1, body=b"x")
        key = (await server.find(old)).key
        assert key is not None
        await server.change_row(old, f"state_changed_at = {PAST}")

        report = await reaper_of(server, retention=timedelta(hours=1)).run()

        assert report[Chore.RECORDS].done == 1
        assert await server.parts.repository.find(id_of(old)) is None
        assert (await server.client.head(old)).status == 404
        assert (await server.client.head(young)).status == 200
        assert (await server.parts.store.head(key)).size == 2 * PART  # an object is nobody's litter


class TestCommand:
    """`rindle reap`, as cron runs it."""

    def flags(self, server: RunningServer) -> list[str]:
        return ["--data", str(server.data), "--database", server.parts.settings.database_url]

    async def test_it_says_what_there_is_to_do_and_does_it_when_told_to(self, server: RunningServer) -> None:
        uploads = await overdue(server, 3)

        told = await asyncio.to_thread(run_rindle, "reap", *self.flags(server), "--json")
        assert (told.returncode, told.stderr) == (0, "")
        assert json.loads(told.stdout) == {
            "dry_run": True,
            "due": {"unfinished": 0, "untidy": 0, "expired": 3, "multiparts": 0, "files": 0, "records": 0},
        }
        assert (await server.find(uploads[0])).state is UploadState.ACTIVE

        table = await asyncio.to_thread(run_rindle, "reap", *self.flags(server))
        assert "expired       3\n" in table.stdout
        assert table.stdout.endswith("Nothing was changed. --yes does it.\n")

        done = await asyncio.to_thread(run_rindle, "reap", *self.flags(server), "--yes", "--json")
        assert done.returncode == 0
        report = json.loads(done.stdout)
        assert report["chores"]["expired"] == {"done": 3, "failed": 0, "skipped": 0}
        assert (report["dry_run"], report["cut_short"]) == (False, False)
        assert list(report["chores"]) == [str(chore) for chore in ALL]
        assert [(await server.find(upload)).state for upload in uploads] == [UploadState.ABORTED] * 3

        again = await asyncio.to_thread(run_rindle, "reap", *self.flags(server), "--yes", "--json")
        assert not any(any(tally.values()) for tally in json.loads(again.stdout)["chores"].values())

    async def test_only_the_chores_that_are_named(self, server: RunningServer) -> None:
        (upload,) = await overdue(server, 1)
        done = await asyncio.to_thread(
            run_rindle, "reap", *self.flags(server), "--yes", "--json", "--only", "files", "--only", "records"
        )
        assert list(json.loads(done.stdout)["chores"]) == ["files", "records"]
        assert (await server.find(upload)).state is UploadState.ACTIVE

    async def test_what_fails_makes_it_end_with_1(self, server: RunningServer) -> None:
        upload = await server.client.create(2 * PART)
        await server.client.patch(upload, 0, bytes(PART))
        await server.change_row(upload, "state = 'finalizing', upload_offset = :length", length=2 * PART)
        (server.data / "objects" / "uploads").mkdir()
        (server.data / "objects" / "uploads" / id_of(upload)).write_bytes(b"in the way")

        done = await asyncio.to_thread(run_rindle, "reap", *self.flags(server), "--yes", "--json")

        assert done.returncode == 1
        assert json.loads(done.stdout)["chores"]["unfinished"] == {"done": 0, "failed": 1, "skipped": 0}
        assert upload.rpartition("/")[2] in done.stderr

    @pytest.mark.parametrize(
        ("flags", "code", "said"),
        [
            (["--only", "everything"], 2, "'everything' is not one of 'unfinished', 'untidy'"),
            (["--lasts", "soon"], 2, "give a duration such as"),
            (["--rate", "0"], 2, "0.0 is not in the range x>0"),
            (["--stray-after", "never"], 3, "stray_after: give a duration"),
            (["--database", "postgresql://nobody@127.0.0.1:1/x"], 4, "the database gave no answer"),
        ],
    )
    def test_what_is_wrong_is_said(self, tmp_path: Path, flags: list[str], code: int, said: str) -> None:
        finished = run_rindle("reap", "--data", tmp_path, *flags)
        assert finished.returncode == code
        assert said in finished.stderr
        assert "Traceback" not in finished.stderr

    @pytest.mark.invariant("I10", "I11")
    async def test_killed_in_the_middle_it_leaves_nothing_that_the_next_run_does_not_find(
        self, server: RunningServer
    ) -> None:
        uploads = await overdue(server, 12)
        process = await asyncio.create_subprocess_exec(
            *RINDLE, "reap", *self.flags(server), "--yes", "--rate", "20", env=environment()
        )
        while UploadState.ABORTED not in [(await server.find(upload)).state for upload in uploads]:
            assert process.returncode is None
        process.kill()
        await process.wait()
        dead = [(await server.find(upload)).state for upload in uploads].count(UploadState.ABORTED)
        assert dead < len(uploads)
        for upload in uploads:
            await server.change_row(upload, f"retry_at = {PAST}")

        report = await reaper_of(server).run()

        assert report[Chore.EXPIRED].done + report[Chore.UNFINISHED].done == len(uploads) - dead
        for upload in uploads:
            assert (await server.find(upload)).state is UploadState.ABORTED
            assert await server.events(upload) == ["created", "expired"]
        assert await multiparts(server) == set()
