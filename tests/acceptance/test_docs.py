"""What the documents say is what happens: their Python runs, their tables and links are right."""

import ast
import asyncio
import io
import logging
import re
import runpy
import subprocess
import sys
from ast import PyCF_ALLOW_TOP_LEVEL_AWAIT
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
from starlette.types import ASGIApp

import rindle
from rindle.buckets import AdminOptions, BucketAdmin
from rindle.objectstore.local import LocalStore
from tests.acceptance.conftest import Serve
from tests.acceptance.process import ROOT, environment
from tests.http import TUS, Client, files_below
from tests.s3 import S3Server
from tests.serving import serving_host

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "examples" / "README.md"]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?:)([^)#]+)")


def blocks(document: str, language: str) -> list[str]:
    return [code for kind, code in _BLOCK.findall((ROOT / document).read_text()) if kind == language]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the examples make does not belong into the checkout."""
    monkeypatch.chdir(tmp_path)


async def upload(client: Client, *, headers: tuple[tuple[str, str], ...] = ()) -> int:
    """The status of a creation with some bytes, which must be there then."""
    sent = [("Upload-Length", "5"), ("Content-Type", "application/offset+octet-stream"), *headers]
    created = await client.request("POST", client.path, sent, b"hello")
    if created.status == 201:
        assert (await client.request("HEAD", created.location, [TUS, *headers], tus=False)).offset == 5
    return created.status


async def assert_serves(app: ASGIApp, path: str = "/files", **options: Any) -> None:
    async with serving_host(app, path=path, **options) as client:
        assert await upload(client) == 201


async def test_the_readme_mounts_an_app() -> None:
    (code,) = [code for code in blocks("README.md", "python") if "create_app" in code]
    names: dict[str, Any] = {}
    exec(code, names)
    await assert_serves(names["app"])
    assert Path("rindle-data/rindle.db").exists()


async def test_the_readmes_python_client_uploads(serve: Serve) -> None:
    (code,) = [code for code in blocks("README.md", "python") if "tusclient" in code]
    server = await serve()
    Path("film.mkv").write_bytes(b"hello")
    code = code.replace("http://127.0.0.1:8080/files", server.endpoint)
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code], check=True)
    (stored,) = files_below(server.data / "objects" / "uploads")
    assert stored.read_bytes() == b"hello"


async def test_the_read_that_would_rather_be_soon_reads(tmp_path: Path) -> None:
    (code,) = blocks("docs/how-to/s3.md", "python")
    names: dict[str, Any] = {}
    exec(code, names)
    async with LocalStore(tmp_path) as store:
        await store.put("key", b"bytes")
    assert await names["read_nearby"](tmp_path.as_uri(), "key") == b"bytes"


async def test_the_object_store_is_used_as_it_says() -> None:
    """docs/how-to/object-store.md, from its first block to its last, as one program that awaits at the top level."""
    names: dict[str, Any] = {}
    for code in blocks("docs/how-to/object-store.md", "python"):
        program = compile(code, "object-store.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        running = eval(program, names)
        if running is not None:
            await running
    assert [meta.key async for meta in names["store"].list("t")] == ["table.csv", "tenants/42/hello"]
    assert names["faulty"].calls["put"] == 2


class TestMounting:
    """docs/how-to/mount.md, from its first block to its last, as one program."""

    CODE = blocks("docs/how-to/mount.md", "python")

    def run(self, marker: str, names: dict[str, Any]) -> Mapping[str, Any]:
        """What the blocks up to the one with the marker have made."""
        last = next(number for number, code in enumerate(self.CODE) if marker in code)
        exec("\n".join(self.CODE[: last + 1]), names)
        return names

    @pytest.fixture
    async def names(self) -> AsyncIterator[dict[str, Any]]:
        class User:
            id = "somebody"

        async def find_user(credentials: str | None) -> User | None:
            return User() if credentials == "Bearer right" else None

        async def django(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 299, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})

        names: dict[str, Any] = {
            "find_user": find_user,
            "django": django,
            "settings": rindle.Settings(data=Path("rindle-data")),
        }
        yield names
        await names["uploads"].aclose()

    async def test_starlette(self, names: dict[str, Any]) -> None:
        await assert_serves(self.run("from starlette.applications", names)["app"])

    async def test_fastapi(self, names: dict[str, Any]) -> None:
        app = self.run("FastAPI", names)["app"]
        for path in ("/files", "/files/"):
            await assert_serves(app, path)

    async def test_a_lifespan_of_ones_own(self, names: dict[str, Any]) -> None:
        made = self.run("asynccontextmanager", names)
        app = made["Starlette"](routes=[*made["uploads"].routes], lifespan=made["lifespan"])
        await assert_serves(app)

    async def test_a_mount(self, names: dict[str, Any]) -> None:
        await assert_serves(self.run("Mount", names)["app"], "/files/")

    async def test_authorize(self, names: dict[str, Any]) -> None:
        async with serving_host(self.run("authorize", names)["uploads"]) as client:
            assert await upload(client) == 401
            assert await upload(client, headers=(("Authorization", "Bearer right"),)) == 201

    async def test_django(self, names: dict[str, Any]) -> None:
        application = self.run("django", names)["application"]
        names["uploads"] = rindle.create_app(names["settings"])
        async with serving_host(application, lifespan="off") as client:
            assert await upload(client) == 201
            assert (await client.request("GET", "/admin")).status == 299


async def test_metrics_and_logs_in_an_app(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """docs/how-to/observe.md, as one program."""
    registry = prometheus_client.CollectorRegistry()
    monkeypatch.setattr(prometheus_client, "REGISTRY", registry)
    names: dict[str, Any] = {"settings": rindle.Settings(data=Path("rindle-data"))}
    exec("\n".join(blocks("docs/how-to/observe.md", "python")), names)
    said = io.StringIO()
    names["handler"].setStream(said)
    caplog.set_level(logging.INFO, "rindle")
    logger = logging.getLogger("rindle")
    logger.addHandler(names["handler"])
    try:
        async with serving_host(names["uploads"]) as client:
            assert (await client.request("HEAD", "/files/x", [("X-Request-ID", "the-id")])).status == 404
    finally:
        logger.removeHandler(names["handler"])
    assert registry.get_sample_value("rindle_errors_total", {"code": "upload_not_found"}) == 1
    assert " INFO the-id HEAD upload_not_found: " in said.getvalue()


async def test_buckets_and_keys_are_made_and_removed(moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto.endpoint)
    (code,) = blocks("docs/how-to/buckets.md", "python")
    names: dict[str, Any] = {}
    exec(code, names)
    made = await names["prepare_tenant"]("tenant")
    assert set(made) == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    async with BucketAdmin(AdminOptions(region="us-east-1")) as admin:
        assert [key.access_key_id for key in await admin.list_keys("tenant")] == [made["AWS_ACCESS_KEY_ID"]]
        await names["remove_tenant"]("tenant", made["AWS_ACCESS_KEY_ID"])
        assert await admin.list_keys("tenant") == []
        assert "tenant" not in [bucket.name for bucket in await admin.list()]


@pytest.mark.parametrize("document", ["docs/how-to/recipes.md", "docs/how-to/snapshots.md"])
async def test_the_blocks_of_a_document_are_one_program(document: str) -> None:
    program = compile("\n".join(blocks(document, "python")), document, "exec", PyCF_ALLOW_TOP_LEVEL_AWAIT)
    await eval(program, {})


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
async def test_an_example_runs_in_memory_and_on_disk_and_leaves_nothing(
    example: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main = runpy.run_path(str(example))["main"]
    await main("memory://")
    in_memory = capsys.readouterr().out
    await main((tmp_path / "store").as_uri())
    on_disk = capsys.readouterr().out
    assert in_memory.count("\n") == on_disk.count("\n") > 0
    assert [path.name for path in (tmp_path / "store").iterdir()] == [".rindle"]


def test_every_example_is_listed() -> None:
    listed = (ROOT / "examples" / "README.md").read_text()
    assert all(f"[{path.name}]({path.name})" in listed for path in EXAMPLES)


def test_the_tables_are_up_to_date() -> None:
    checked = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment(),
    )
    assert checked.returncode == 0, checked.stderr


def test_links_lead_somewhere() -> None:
    for document in DOCUMENTS:
        for target in _LINK.findall(document.read_text()):
            assert (document.parent / target).exists(), f"{document}: {target}"


def test_every_module_is_in_its_room() -> None:
    """The map in docs/explanation/architecture.md names every module of the row above the object store."""
    rooms = (ROOT / "docs/explanation/architecture.md").read_text().split("```")[1]
    for path in (
        path for room in ("uploads", "recipes", "snapshots") for path in (ROOT / "rindle" / room).glob("*.py")
    ):
        assert path.stem == "__init__" or re.search(rf"\b{path.stem}\b", rooms), path
