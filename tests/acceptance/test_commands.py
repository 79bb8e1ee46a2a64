"""The command line as it is met: what is said, and with which exit code."""

import os
import signal
import socket
import sqlite3
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.conftest import Serve
from tests.acceptance.process import RINDLE, environment, run_rindle, without_rights

Finished = subprocess.CompletedProcess[str]

HEAVY = ("alembic", "awscrt", "botocore", "pydantic", "sqlalchemy", "starlette", "uvicorn")
UNREACHABLE = ("postgresql://user:s3cret@127.0.0.1:1/rindle", "postgresql+asyncpg://user:s3cret@127.0.0.1:1/rindle")


def assert_refused(finished: Finished, code: int, *said: str) -> None:
    """It failed with this code and one line that says all of this."""
    assert finished.stderr.count("\n") == 1, finished.stderr
    assert finished.stderr.startswith("error: ")
    for text in said:
        assert text in finished.stderr
    assert finished.returncode == code


class TestServe:
    def test_a_port_in_use(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = str(other.getsockname()[1])
            refused = run_rindle("serve", "--port", port, "--data", tmp_path / "data")
        assert_refused(refused, 3, f"127.0.0.1 port {port}", "in use", "--port")

    def test_a_folder_that_may_not_be_written(self, tmp_path: Path) -> None:
        folder = tmp_path / "data"
        folder.mkdir(mode=0o555)
        refused = run_rindle("serve", "--port", "0", "--data", folder, before=without_rights())
        assert_refused(refused, 3, str(folder), "not writable", "--data")

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        refused = run_rindle("serve", "--port", "0", "--data", tmp_path / "file" / "data")
        assert_refused(refused, 3, "cannot be made", "--data")

    def test_an_unknown_flag(self) -> None:
        refused = run_rindle("serve", "--prt", "1")
        assert refused.returncode == 2
        assert "No such option '--prt'" in refused.stderr
        assert "--port" in refused.stderr

    def test_an_unknown_command(self) -> None:
        refused = run_rindle("srve")
        assert refused.returncode == 2
        assert "No such command 'srve'" in refused.stderr
        assert "'serve'" in refused.stderr

    def test_an_unknown_variable(self, tmp_path: Path) -> None:
        refused = run_rindle("serve", env={"RINDLE_PRT": "1"}, cwd=tmp_path)
        assert_refused(refused, 3, "RINDLE_PRT", "the environment", "did you mean RINDLE_PORT?")
        assert list(tmp_path.iterdir()) == []

    def test_an_unknown_key(self, tmp_path: Path) -> None:
        file = tmp_path / "rindle.toml"
        file.write_text("max_sise = '1GB'\n")
        refused = run_rindle("serve", "--config", file, cwd=tmp_path)
        assert_refused(refused, 3, "max_sise", str(file), "did you mean max_size?")

    def test_a_value_that_makes_no_sense(self, tmp_path: Path) -> None:
        refused = run_rindle("serve", "--idle-timeout", "soon", "--max-size", "big", cwd=tmp_path)
        assert_refused(refused, 3, "idle_timeout", "90s", "'soon'", "max_size", "'big'")

    @pytest.mark.invariant("I23")
    def test_the_database_of_a_newer_rindle(self, tmp_path: Path, sqlite_url: str) -> None:
        with sqlite3.connect(sqlite_url.removeprefix("sqlite:///")) as connection:
            connection.execute("UPDATE rindle_schema SET version_num = '9999'")
        connection.close()
        refused = run_rindle("serve", "--port", "0", "--data", tmp_path, "--database", sqlite_url)
        assert_refused(refused, 3, "newer than this rindle", "upgrade rindle")

    def test_a_database_without_a_schema(self, tmp_path: Path, empty_postgres_url: str) -> None:
        refused = run_rindle("serve", "--port", "0", "--data", tmp_path, "--database", empty_postgres_url)
        assert_refused(refused, 3, "no schema", "`rindle db upgrade`")

    @pytest.mark.parametrize(
        ("command", "url"),
        [*(("serve", url) for url in UNREACHABLE), ("db upgrade", UNREACHABLE[0]), ("db check", UNREACHABLE[1])],
    )
    def test_a_database_that_is_not_there(self, tmp_path: Path, command: str, url: str) -> None:
        refused = run_rindle(*command.split(), env={"RINDLE_DATABASE": url}, cwd=tmp_path)
        assert_refused(refused, 4, "the database")
        assert "s3cret" not in refused.stderr + refused.stdout

    @pytest.mark.parametrize("command", ["serve", "db upgrade"])
    def test_a_file_that_is_no_database(self, tmp_path: Path, command: str) -> None:
        (tmp_path / "rindle.db").write_bytes(b"no database" * 1000)
        assert_refused(run_rindle(*command.split(), "--data", tmp_path, cwd=tmp_path), 4, "not a database")

    async def test_what_it_says_when_it_is_ready(self, serve: Serve) -> None:
        server = await serve()
        assert await server.terminate() == 0
        lines = server.output.splitlines()
        assert lines[0].split() == f"rindle takes tus uploads at {server.endpoint}".split()
        assert lines[1].split() == f"everything is kept under {server.data}".split()
        assert any(line.strip().startswith(f"curl -i -X POST {server.endpoint}") for line in lines)
        assert "development defaults" in lines[-2]
        assert lines[-1] == "stopping: uploads keep what has arrived"

    async def test_an_upload_with_postgresql(self, serve: Serve, empty_postgres_url: str, tmp_path: Path) -> None:
        assert run_rindle("db", "upgrade", "--database", empty_postgres_url).returncode == 0
        folder = tmp_path / "elsewhere"
        server = await serve("--database", empty_postgres_url, "--store", folder.as_uri())
        location = await server.client.create(10, body=b"01234")
        await server.kill()
        await server.start()
        assert (await server.client.patch(location, 5, b"56789")).status == 204
        (content,) = [path.read_bytes() for path in (folder / "uploads").rglob("*") if path.is_file()]
        assert content == b"0123456789"


class TestDb:
    @pytest.fixture(params=["sqlite", "postgres"])
    def url(self, request: pytest.FixtureRequest) -> str:
        return str(request.getfixturevalue(f"empty_{request.param}_url"))

    def test_a_schema_is_made(self, url: str) -> None:
        def db(command: str) -> tuple[int, str]:
            finished = run_rindle("db", command, env={"RINDLE_DATABASE": url})
            assert "Traceback" not in finished.stderr
            return finished.returncode, finished.stdout + finished.stderr

        assert db("check") == (3, "error: the database has no schema yet: run `rindle db upgrade`\n")
        code, said = db("upgrade")
        assert (code, said.startswith("upgraded from nothing to ")) == (0, True)
        assert db("current") == (0, f"{said.split()[-1]}\n")
        assert db("check") == (0, "the schema is up to date\n")

    def test_an_upgrade_makes_the_data_folder(self, tmp_path: Path) -> None:
        finished = run_rindle("db", "upgrade", cwd=tmp_path)
        assert finished.returncode == 0, finished.stderr
        assert (tmp_path / "rindle-data" / "rindle.db").exists()


class TestDemo:
    @staticmethod
    def demo(tmp_path: Path, *arguments: str | Path, **env: str) -> Finished:
        """The demonstration, in a temporary folder that must be as empty afterwards as before."""
        temporary = tmp_path / "temporary"
        temporary.mkdir()
        finished = run_rindle("demo", *arguments, cwd=tmp_path, env={"TMPDIR": str(temporary), **env})
        assert list(temporary.iterdir()) == []
        assert "Traceback" not in finished.stderr
        return finished

    def test_without_a_file(self, tmp_path: Path) -> None:
        finished = self.demo(tmp_path, "--size", "12")
        assert finished.returncode == 0, finished.stderr
        assert "12.0 MiB" in finished.stdout
        assert f"cut off after {12 * 1024 * 1024 * 4 // 10} of {12 * 1024 * 1024} bytes" in finished.stdout
        assert "are equal" in finished.stdout
        assert finished.stderr == ""

    @pytest.mark.parametrize("size", [1, 5 * 1024 * 1024 + 1])
    def test_with_a_file(self, tmp_path: Path, size: int) -> None:
        file = tmp_path / "my file"
        file.write_bytes(os.urandom(size))
        finished = self.demo(tmp_path, file)
        assert finished.returncode == 0, finished.stderr
        assert "my file" in finished.stdout
        assert "are equal" in finished.stdout

    def test_what_is_set_for_the_real_server_is_left_alone(self, tmp_path: Path) -> None:
        precious = tmp_path / "precious"
        finished = self.demo(
            tmp_path,
            *("--size", "1", "--part-size", "64KiB"),
            RINDLE_DATABASE=UNREACHABLE[0],
            RINDLE_DATA=str(precious),
            RINDLE_STORE=precious.as_uri(),
            RINDLE_TAILS=str(precious),
            RINDLE_PUBLIC_URL="https://example.org/files",
            RINDLE_MAX_SIZE="10",
        )
        assert finished.returncode == 0, finished.stderr
        assert not precious.exists()

    def test_with_an_empty_file(self, tmp_path: Path) -> None:
        (tmp_path / "empty").touch()
        finished = self.demo(tmp_path, tmp_path / "empty")
        assert finished.returncode == 2
        assert "is empty" in finished.stderr

    def test_with_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        finished = self.demo(tmp_path, tmp_path / "nowhere")
        assert finished.returncode == 2
        assert "does not exist" in finished.stderr

    def test_a_ctrl_c_removes_everything(self, tmp_path: Path) -> None:
        temporary = tmp_path / "temporary"
        temporary.mkdir()
        with subprocess.Popen(
            [*RINDLE, "demo", "--size", "200"],
            env=environment(TMPDIR=str(temporary)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("serve")
            process.send_signal(signal.SIGINT)
            _, said = process.communicate()
        assert process.returncode == 1
        assert said.strip() == "Aborted!"
        assert list(temporary.iterdir()) == []


class TestLoading:
    def test_help_needs_nothing_heavy(self) -> None:
        finished = subprocess.run(
            [RINDLE[0], "-X", "importtime", *RINDLE[1:], "--help"],
            check=True,
            capture_output=True,
            text=True,
            env=environment(),
        )
        assert "Usage: " in finished.stdout
        imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in finished.stderr.splitlines()}
        assert "click" in imported
        assert imported.isdisjoint(HEAVY)

    def test_the_package_needs_nothing_heavy(self) -> None:
        code = "import sys, rindle; print(*{name.partition('.')[0] for name in sys.modules})"
        loaded = subprocess.run([RINDLE[0], "-c", code], check=True, capture_output=True, text=True).stdout.split()
        assert "rindle" in loaded
        assert set(loaded).isdisjoint([*HEAVY, "click", "asyncio"])

    def test_the_command_and_the_module_are_the_same(self) -> None:
        script = Path(RINDLE[0]).with_name("rindle")
        for argument in ("--help", "--version"):
            by_name = subprocess.run([script, argument], check=True, capture_output=True, text=True, env=environment())
            as_module = run_rindle(argument)
            assert as_module.stdout.replace("python -m rindle", "rindle") == by_name.stdout
