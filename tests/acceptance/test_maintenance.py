"""The commands for operators, each run as they run it: what it prints, for people and for programs, and how it ends."""

import asyncio
import base64
import json
import os
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from rindle.objectstore.types import MultipartOptions
from rindle.uploads.ids import new_token, new_upload_id
from rindle.uploads.model import UploadState
from tests.acceptance.process import RINDLE, environment, run_rindle
from tests.http import id_of
from tests.serving import RunningServer, StartServer

pytestmark = pytest.mark.long  # a process for each command

PART = 64 * 1024
UNREACHABLE = "postgresql://user:s3cret@127.0.0.1:1/rindle"

FIELDS = {
    "id": str,
    "owner": str,
    "usecase": str,
    "state": str,
    "offset": int,
    "length": (int, type(None)),
    "metadata": str,
    "content_type": (str, type(None)),
    "kind": str,
    "pins": int,
    "key": (str, type(None)),
    "target": (str, type(None)),
    "e_tag": (str, type(None)),
    "crc64nvme": (str, type(None)),
    "part_size": int,
    "part_count": int,
    "multipart_id": (str, type(None)),
    "tail": (dict, type(None)),
    "lease": (dict, type(None)),
    "generation": int,
    "untidy": bool,
    "reason": (str, type(None)),
    "created_at": str,
    "state_changed_at": str,
    "expires_at": (str, type(None)),
    "failures": int,
    "failure": (str, type(None)),
    "retry_at": (str, type(None)),
}
"""What docs/reference/commands.md says of an upload, in its order."""


class Operator:
    """Runs commands against a server's records, store and tails."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        self.flags = ("--data", str(server.data), "--database", server.parts.settings.database_url)

    async def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        finished = await asyncio.to_thread(run_rindle, *arguments, *self.flags)
        assert "Traceback" not in finished.stderr
        return finished

    async def says(self, *arguments: str, code: int = 0) -> str:
        """What it prints; it ends with this code."""
        finished = await self.run(*arguments)
        assert finished.returncode == code, finished.stderr
        return finished.stdout

    async def refuses(self, *arguments: str, code: int) -> str:
        """The complaint; nothing is printed."""
        finished = await self.run(*arguments)
        assert (finished.returncode, finished.stdout) == (code, "")
        return finished.stderr

    async def value(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(await self.says(*arguments, "--json", code=code))

    async def lines(self, *arguments: str, code: int = 0) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (await self.says(*arguments, "--json", code=code)).splitlines()]


@pytest.fixture
async def server(start_server: StartServer) -> RunningServer:
    return await start_server(part_size=PART)


@pytest.fixture
def operator(server: RunningServer) -> Operator:
    return Operator(server)


async def complete(server: RunningServer, content: bytes = b"hello", *headers: tuple[str, str]) -> str:
    upload = await server.client.create(len(content), *headers)
    assert (await server.client.patch(upload, 0, content)).status == 204
    return upload


async def begun(server: RunningServer) -> str:
    """A part, and a tail of 100 bytes."""
    upload = await server.client.create(3 * PART)
    assert (await server.client.patch(upload, 0, bytes(PART + 100))).status == 204
    return upload


class TestListing:
    async def test_uploads_are_listed_oldest_first_with_all_their_fields(self, operator: Operator) -> None:
        name = ("Upload-Metadata", f"filename {base64.b64encode(b'a.txt').decode()},filetype dGV4dC9wbGFpbg==")
        first = await complete(operator.server, b"hello", name)
        second = await begun(operator.server)

        listed = await operator.lines("uploads", "ls")

        assert [line["id"] for line in listed] == sorted([id_of(first), id_of(second)])
        by_id = {line["id"]: line for line in listed}
        for line in listed:
            assert list(line) == list(FIELDS)
            for field, kind in FIELDS.items():
                assert isinstance(line[field], kind), field  # type: ignore[arg-type]
        whole, part = by_id[id_of(first)], by_id[id_of(second)]
        assert (whole["state"], whole["offset"], whole["length"], whole["kind"]) == ("complete", 5, 5, "plain")
        assert (whole["content_type"], whole["metadata"], whole["expires_at"]) == ("text/plain", name[1], None)
        assert (part["state"], part["part_count"], part["tail"]["length"], part["lease"]) == ("active", 1, 100, None)

        table = (await operator.says("uploads", "ls")).splitlines()
        assert table[0].split() == ["id", "state", "offset", "of", "age", "expires", "in", "owner", "key"]
        assert any(row.split()[:4] == [id_of(second), "active", "64.1", "KiB"] for row in table)

    @pytest.mark.parametrize(
        ("flags", "found"),
        [
            (["--state", "active"], "begun"),
            (["--state", "complete", "--state", "aborted"], "whole"),
            (["--owner", ""], "both"),
            (["--owner", "alice"], "none"),
            (["--usecase", "default"], "both"),
            (["--usecase", "films"], "none"),
            (["--key", "uploads/"], "both"),
            (["--key", "up%"], "none"),
            (["--larger-than", "64KiB"], "begun"),
            (["--smaller-than", "5"], "whole"),
            (["--younger-than", "1h"], "both"),
            (["--older-than", "1h"], "none"),
            (["--node", "elsewhere"], "none"),
        ],
    )
    async def test_uploads_are_filtered(self, operator: Operator, flags: Sequence[str], found: str) -> None:
        whole, part = id_of(await complete(operator.server)), id_of(await begun(operator.server))
        wanted = {"begun": {part}, "whole": {whole}, "both": {whole, part}, "none": set()}[found]
        assert {line["id"] for line in await operator.lines("uploads", "ls", *flags)} == wanted

    async def test_a_list_that_is_cut_says_so(self, operator: Operator) -> None:
        ids = sorted([id_of(await operator.server.client.create(1)) for _ in range(3)])
        finished = await operator.run("uploads", "ls", "--limit", "2")
        assert [line.split()[0] for line in finished.stdout.splitlines()[1:]] == ids[:2]
        assert finished.stderr == "There are more than 2; --limit shows more, --json all.\n"
        assert [line["id"] for line in await operator.lines("uploads", "ls", "--limit", "2")] == ids[:2]

    async def test_uploads_are_counted_by_state(self, operator: Operator) -> None:
        await complete(operator.server)
        await begun(operator.server)
        counted = await operator.value("uploads", "count")
        assert counted == {
            "active": {"uploads": 1, "bytes": PART + 100},
            "complete": {"uploads": 1, "bytes": 5},
        }
        assert (await operator.says("uploads", "count")).splitlines()[1].split() == ["active", "1", "64.1", "KiB"]

    async def test_all_of_one_upload_is_shown(self, operator: Operator) -> None:
        upload = id_of(await begun(operator.server))
        shown = await operator.value("uploads", "show", upload)
        assert list(shown) == [*FIELDS, "parts", "events"]
        assert [list(part) for part in shown["parts"]] == [["part_number", "size", "e_tag", "crc64nvme"]]
        assert [(event["type"], event["upload_id"]) for event in shown["events"]] == [("created", upload)]
        row = await operator.server.find(upload)
        assert row.multipart is not None
        text = await operator.says("uploads", "show", upload)
        assert upload in text
        assert row.multipart.multipart_id in text

    async def test_a_lease_is_shown_without_what_would_let_one_write(self, operator: Operator) -> None:
        upload = await operator.server.client.create(10)
        async with operator.server.client.connect() as connection:
            await connection.begin_patch(upload, 0, length=10)
            await connection.send(b"hello")
            await operator.server.tap.took(5)
            lease = (await operator.server.find(upload)).lease
            assert lease is not None
            said = await operator.says("uploads", "show", id_of(upload), "--json")
        assert json.loads(said)["lease"]["holder"] == lease.holder
        assert lease.token not in said

    async def test_what_a_terminal_would_obey_is_written_out(self, operator: Operator) -> None:
        upload = await operator.server.client.create(1)
        await operator.server.change_row(upload, "owner = :owner", owner="\x1b[2Jevil\n")
        assert "\\x1b[2Jevil\\n" in await operator.says("uploads", "ls")

    async def test_tails_are_listed_with_what_they_are_to_their_uploads(self, operator: Operator) -> None:
        upload = await begun(operator.server)
        tail = (await operator.server.find(upload)).tail
        assert tail is not None
        litter = tail.name.replace(tail.name.split(".")[1], "0" * 16)
        (operator.server.data / "tails" / "tus" / litter).write_bytes(b"old")
        listed = {line["name"]: line for line in await operator.lines("tails", "ls")}
        assert list(listed[tail.name]) == ["name", "upload_id", "bytes", "use", "modified_at"]
        assert {name: (line["bytes"], line["use"]) for name, line in listed.items()} == {
            tail.name: (100, "named"),
            litter: (3, "litter"),
        }
        assert "named" in await operator.says("tails", "ls")

        assert f"{tail.name} is named" in await operator.refuses("tails", "rm", tail.name, "--yes", code=1)
        assert await operator.says("tails", "rm", litter, "--yes") == f"{litter} removed\n"
        assert [line["name"] for line in await operator.lines("tails", "ls")] == [tail.name]
        assert "there is no tail" in await operator.refuses("tails", "rm", litter, "--yes", code=5)

    async def test_multiparts_are_listed_and_those_that_nobody_needs_aborted(self, operator: Operator) -> None:
        upload = await begun(operator.server)
        owned = (await operator.server.find(upload)).multipart
        assert owned is not None
        store = operator.server.parts.store
        options = MultipartOptions(part_size=PART)
        stray = await store.create_multipart(f"uploads/{new_upload_id()}/{new_token()}", options)
        foreign = await store.create_multipart("uploads/someone", options)
        listed = {line["multipart_id"]: line for line in await operator.lines("multiparts", "ls")}
        assert {multipart_id: line["upload"] for multipart_id, line in listed.items()} == {
            owned.multipart_id: "active",
            stray.multipart_id: "unknown",
            foreign.multipart_id: "foreign",
        }
        assert list(listed[owned.multipart_id]) == ["key", "multipart_id", "upload", "initiated_at"]
        assert await operator.lines("multiparts", "ls", "--older-than", "1h") == []
        assert "unknown" in await operator.says("multiparts", "ls")

        refused = await operator.refuses("multiparts", "abort", owned.multipart_id, "--yes", code=1)
        assert "belongs to an upload that is active" in refused
        assert "aborted" in await operator.says("multiparts", "abort", stray.multipart_id, "--yes")
        assert "there is no multipart" in await operator.refuses("multiparts", "abort", "nope", "--yes", code=5)
        assert {multipart.ref async for multipart in store.list_multiparts()} == {owned, foreign}


class TestChanges:
    async def test_an_upload_is_aborted(self, operator: Operator) -> None:
        upload = id_of(await begun(operator.server))
        refused = await operator.refuses("uploads", "abort", upload, code=2)
        assert f"Drop {upload} (active, 64.1 KiB)? Say --yes." in refused
        assert await operator.says("uploads", "abort", upload, "--yes") == f"{upload} dropped\n"
        assert (await operator.server.find(upload)).state is UploadState.ABORTED
        assert await operator.server.events(upload) == ["created", "terminated"]
        assert [meta async for meta in operator.server.parts.store.list_multiparts()] == []
        assert "was terminated" in await operator.refuses("uploads", "abort", upload, "--yes", code=1)

    async def test_a_complete_upload_is_removed_only_by_rm(self, operator: Operator) -> None:
        upload = id_of(await complete(operator.server))
        assert "is complete" in await operator.refuses("uploads", "abort", upload, "--yes", code=1)
        assert await operator.says("uploads", "rm", upload, "--yes") == f"{upload} removed\n"
        assert [meta async for meta in operator.server.parts.store.list()] == []

    async def test_an_upload_is_expired(self, operator: Operator) -> None:
        whole, part = id_of(await complete(operator.server)), id_of(await begun(operator.server))
        assert "is complete, not active" in await operator.refuses("uploads", "expire", part, whole, "--yes", code=1)
        assert (await operator.server.find(part)).state is UploadState.ACTIVE
        assert await operator.says("uploads", "expire", part, "--yes") == f"{part} expired\n"
        assert await operator.server.events(part) == ["created", "expired"]

    async def test_an_upload_lives_longer(self, operator: Operator) -> None:
        whole, part = id_of(await complete(operator.server)), id_of(await begun(operator.server))
        before = (await operator.server.find(part)).expires_at
        assert f"{part} lives until " in await operator.says("uploads", "extend", part, "--for", "7d")
        after = (await operator.server.find(part)).expires_at
        assert before is not None
        assert after is not None
        assert 6 <= (after - before).days <= 7
        await operator.says("uploads", "extend", part, "--for", "1h")
        assert (await operator.server.find(part)).expires_at == after
        assert "does not expire" in await operator.refuses("uploads", "extend", whole, "--for", "7d", code=1)

    async def test_a_node_is_retired(self, operator: Operator) -> None:
        await operator.server.parts.reaper._beat()
        upload = await begun(operator.server)
        node = operator.server.parts.tails.node.id
        (listed,) = await operator.lines("nodes", "ls")
        assert list(listed) == ["id", "name", "seen_at", "retired_at", "tails", "tail_bytes"]
        assert (listed["id"], listed["tails"], listed["tail_bytes"], listed["retired_at"]) == (node, 1, 100, None)
        assert "1 tails with 100 B on it are lost then. Say --yes." in await operator.refuses(
            "nodes", "retire", node, code=2
        )
        assert await operator.says("nodes", "retire", node, "--yes") == f"{node} retired\n"
        (listed,) = await operator.lines("nodes", "ls")
        assert listed["retired_at"] is not None
        assert "there is no node" in await operator.refuses("nodes", "retire", "nope", "--yes", code=5)
        assert (await operator.server.find(upload)).tail is not None


class TestVerify:
    async def test_what_agrees_is_well(self, operator: Operator) -> None:
        small, large = await complete(operator.server), await complete(operator.server, bytes(2 * PART + 5))
        await begun(operator.server)
        finished = await operator.run("verify", "--deep")
        assert (finished.returncode, finished.stdout) == (0, "")
        assert finished.stderr == "2 uploads, 0 wrong, 0 repaired, 0 not looked at\n"
        for upload in map(id_of, (small, large)):
            assert await operator.lines("uploads", "verify", upload, "--deep") == [
                {"id": upload, "fault": None, "detail": None}
            ]

    @pytest.mark.invariant("I25")
    @pytest.mark.parametrize(
        ("fault", "deep"),
        [("missing", False), ("size", False), ("marker", False), ("content", True), ("e_tag", False)],
    )
    async def test_what_does_not_agree_is_told_and_the_record_made_to_say_so(
        self, operator: Operator, *, fault: str, deep: bool
    ) -> None:
        server = operator.server
        upload, well = id_of(await complete(server, bytes(2 * PART + 5))), await complete(server)
        row = await server.find(upload)
        assert row.key is not None
        store, path = server.parts.store, server.data / "objects" / row.key
        if fault == "missing":
            await store.delete(row.key)
        elif fault == "size":
            os.truncate(path, 5)
        elif fault == "marker":
            await store.put(row.key, bytes(2 * PART + 5))
        elif fault == "content":
            before = path.stat()
            with path.open("r+b") as file:
                file.seek(PART + 1)
                file.write(b"x")
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # a disk that bends bytes tells nobody
        else:
            await server.change_row(upload, "e_tag = 'another'")
        flags = ["--deep"] if deep else []

        (line,) = await operator.lines("uploads", "verify", upload, *flags, code=1)
        assert line["fault"] == fault
        (found,) = await operator.lines("verify", *flags, code=1)
        assert list(found) == ["id", "key", "fault", "detail", "repaired"]
        assert (found["id"], found["key"], found["fault"], found["repaired"]) == (upload, row.key, fault, False)
        assert (await server.find(upload)).state is UploadState.COMPLETE
        assert "Say --yes" in await operator.refuses("verify", "--repair", code=2)

        (repaired,) = await operator.lines("verify", *flags, "--repair", "--yes")
        assert repaired["repaired"]
        after = await server.find(upload)
        if fault == "e_tag":
            assert (after.state, after.e_tag) == (UploadState.COMPLETE, row.e_tag)
        else:
            assert (after.state, after.reason) == (UploadState.FAILED, f"object_{fault}")
            assert (await server.client.head(f"/files/{upload}")).status == 410
            assert await server.events(upload) == ["created", "finished", "failed"]
        assert path.exists() == (fault != "missing")
        assert await operator.lines("verify", *flags) == []
        assert await server.read_object(well) == b"hello"

    async def test_only_a_complete_upload_has_an_object(self, operator: Operator) -> None:
        upload = id_of(await begun(operator.server))
        assert "is active; only a complete one" in await operator.refuses("uploads", "verify", upload, code=1)


class TestWatching:
    @pytest.fixture
    async def watching(self, operator: Operator) -> AsyncIterator[asyncio.subprocess.Process]:
        process = await asyncio.create_subprocess_exec(
            *RINDLE,
            *("uploads", "watch", "--json", "--since", "0", *operator.flags),
            stdout=subprocess.PIPE,
            env=environment(PYTHONUNBUFFERED="1"),
        )
        yield process
        process.kill()
        await process.wait()

    async def test_events_are_followed(self, operator: Operator, watching: asyncio.subprocess.Process) -> None:
        assert watching.stdout is not None
        upload = await complete(operator.server)
        async with asyncio.timeout(60):
            lines = [json.loads(await watching.stdout.readline()) for _ in range(2)]
            assert [(line["type"], line["upload_id"]) for line in lines] == [
                ("created", id_of(upload)),
                ("finished", id_of(upload)),
            ]
            assert list(lines[0]) == [
                *("event", "at", "upload_id", "owner", "type", "length", "offset", "key", "reason"),
            ]
            await begun(operator.server)
            assert json.loads(await watching.stdout.readline())["type"] == "created"
        assert lines[1]["event"] == lines[0]["event"] + 1


class TestConfig:
    def test_each_value_is_shown_with_where_it_comes_from(self, tmp_path: Path) -> None:
        file = tmp_path / "rindle.toml"
        file.write_text('port = 9000\nkey_prefix = "film"\nexpires_in = "36h"\n')
        finished = run_rindle(
            *("config", "show", "--json", "--config", file, "--part-size", "8MiB"),
            env={
                "RINDLE_PORT": "9001",
                "RINDLE_DATABASE": "postgresql://rindle:s3cret@db/rindle?sslpassword=s3cret",
                "RINDLE_STORE": "gs://bucket",
                "RINDLE_STORE_SECRET": '{"private_key": "s3cret", "token_uri": "https://example.org"}',
            },
        )
        assert (finished.returncode, finished.stderr) == (0, "")
        shown: Mapping[str, Mapping[str, str]] = json.loads(finished.stdout)
        assert shown["port"] == {"value": "9001", "origin": "environment"}
        assert shown["key_prefix"] == {"value": "film", "origin": "file"}
        assert shown["expires_in"] == {"value": "36h", "origin": "file"}
        assert shown["part_size"] == {"value": "8MiB", "origin": "flag"}
        assert shown["host"] == {"value": "127.0.0.1", "origin": "default"}
        assert shown["database"]["value"] == "postgresql://rindle:********@db/rindle?********"
        assert shown["store_secret"]["value"] == "********"
        assert "s3cret" not in finished.stdout


NEED_RECORDS = [
    ["uploads", "ls"],
    ["uploads", "count"],
    ["uploads", "show", "x"],
    ["uploads", "abort", "x", "--yes"],
    ["uploads", "expire", "x", "--yes"],
    ["uploads", "rm", "x", "--yes"],
    ["uploads", "extend", "x", "--for", "1d"],
    ["uploads", "verify", "x"],
    ["uploads", "watch"],
    ["verify"],
    ["multiparts", "ls"],
    ["multiparts", "abort", "x", "--yes"],
    ["nodes", "ls"],
    ["nodes", "retire", "x", "--yes"],
]


class TestBadDays:
    @pytest.mark.parametrize("command", NEED_RECORDS, ids=" ".join)
    def test_a_database_that_is_down_is_told_in_one_line(self, tmp_path: Path, command: Sequence[str]) -> None:
        finished = run_rindle(*command, "--data", tmp_path, "--database", UNREACHABLE)
        assert finished.returncode == 4
        assert finished.stderr.startswith("error: the database gave no answer")
        assert finished.stderr.count("\n") == 1
        assert "s3cret" not in finished.stderr

    @pytest.mark.parametrize("command", ["show", "abort", "expire", "rm", "verify"])
    async def test_an_upload_that_is_not_there(self, operator: Operator, command: str) -> None:
        yes = [] if command in {"show", "verify"} else ["--yes"]
        refused = await operator.refuses("uploads", command, "0" * 32, *yes, code=5)
        assert refused == f"error: upload {'0' * 32}: There is no such upload. Create a new one.\n"

    @pytest.mark.parametrize(
        ("command", "said"),
        [
            (["uploads", "ls", "--state", "gone"], "'gone' is not one of 'active'"),
            (["uploads", "ls", "--older-than", "soon"], "give a duration such as"),
            (["uploads", "ls", "--larger-than", "big"], "'big' is no size such as"),
            (["uploads", "ls", "--limit", "0"], "0 is not in the range x>=1"),
            (["uploads", "extend", "x"], "Missing option '--for'"),
            (["uploads", "abort"], "Missing argument 'ID...'"),
            (["uploads", "lst"], "No such command 'lst'"),
            (["nodes", "retire"], "Missing argument 'ID'"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else None,
    )
    def test_wrong_usage_is_told(self, command: Sequence[str], said: str) -> None:
        finished = run_rindle(*command)
        assert (finished.returncode, finished.stdout) == (2, "")
        assert said in finished.stderr

    def test_a_machine_without_tails(self, tmp_path: Path) -> None:
        finished = run_rindle("tails", "ls", "--data", tmp_path)
        assert finished.returncode == 3
        assert "there is no folder" in finished.stderr
        assert "--tails" in finished.stderr
