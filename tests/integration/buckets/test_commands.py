"""`rindle buckets`: what it prints and where, and how it ends."""

import asyncio
import json
import re
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from rindle.cli.buckets import buckets
from rindle.cli.exits import NOT_FOUND, UNREACHABLE, exit_code_of
from rindle.errors import ConfigurationError, RindleError
from tests.acceptance.process import RINDLE, environment, run_rindle
from tests.iam_proxy import IamFault, IamProxy
from tests.integration.buckets.account import Account
from tests.s3 import S3Server

Run = Callable[..., Result]

DEVICE = Path("/dev/full")


@pytest.fixture
def place(moto: S3Server) -> list[str]:
    return ["--endpoint", moto.endpoint, "--iam-endpoint", moto.endpoint, "--region", "us-east-1"]


@pytest.fixture
def run(place: list[str]) -> Run:
    def run(*arguments: str, code: int = 0, at: list[str] = place) -> Result:
        result = CliRunner().invoke(buckets, [*arguments, *at])
        if result.exception is not None and not isinstance(result.exception, SystemExit | RindleError):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    return run


@pytest.fixture(autouse=True)
def has(moto: S3Server) -> Iterator[Callable[[], set[str]]]:
    account = Account(moto.endpoint)

    async def look() -> set[str]:
        async with account:
            return await account.has()

    yield lambda: asyncio.run(look())
    account.forget()


def said(result: Result) -> Any:
    return json.loads(result.stdout)


def test_a_buckets_life(run: Run, has: Callable[[], set[str]]) -> None:
    assert run("ls").stdout.split() == ["name", "created_at", "region"]
    assert run("create", "made").stdout == "made the bucket made\n"
    assert run("ensure", "made").stdout == "the bucket made is there\n"
    assert run("ensure", "ensured").stdout == "made the bucket ensured\n"
    head, first, second = run("ls").stdout.splitlines()
    assert head.split() == ["name", "created_at", "region"]
    assert re.fullmatch(r"ensured  \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00.*", first)
    assert second.startswith("made     ")
    listed = [json.loads(line) for line in run("ls", "--json").stdout.splitlines()]
    assert [bucket["name"] for bucket in listed] == ["ensured", "made"]
    assert listed[0]["created_at"].endswith("+00:00")
    assert run("rm", "made", "--yes").stdout == "deleted the bucket made\n"
    assert said(run("rm", "ensured", "--yes", "--json"))["deleted"] == {"objects": 0, "multiparts": 0}
    assert has() == set()


def test_what_is_there_or_is_not_fails_with_a_reason(run: Run) -> None:
    run("create", "made")
    assert "made is there already" in str(run("create", "made", code=1).exception)
    for refused in (run("rm", "other", "--yes", code=1), run("credentials", "other", code=1)):
        assert isinstance(refused.exception, RindleError)
        assert exit_code_of(refused.exception) == NOT_FOUND
        assert "there is no bucket other" in str(refused.exception)


def test_a_bucket_is_not_deleted_without_a_yes(run: Run, has: Callable[[], set[str]]) -> None:
    run("create", "made")
    refused = run("rm", "made", "--force", code=2)
    assert "Delete the bucket made, and everything in it with all versions, for ever? Say --yes." in refused.stderr
    assert has() == {"bucket made"}


def test_what_is_in_a_bucket_goes_only_when_it_is_forced(run: Run, moto: S3Server, has: Callable[[], set[str]]) -> None:
    run("create", "full")
    asyncio.run(moto.put_object("full", "key"))
    assert "not empty" in str(run("rm", "full", "--yes", code=1).exception)
    gone = run("rm", "full", "--force", "--yes")
    assert gone.stdout == "deleted the bucket full with 1 objects and 0 unfinished multiparts\n"
    assert has() == set()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["create", "No"], "a bucket cannot be called 'No'"),
        (["create", "made", "--prefix", "a"], "are for --credentials"),
        (["create", "made", "--output", "file"], "are for --credentials"),
        (["credentials", "made", "--prefix", "a*"], "which in a policy would stand for others"),
        (["credentials", "made", "--access", "full"], "'full' is not one of"),
        (["ensure"], "say which bucket"),
    ],
)
def test_arguments_that_make_no_sense(run: Run, arguments: list[str], text: str) -> None:
    assert text in run(*arguments, code=2).stderr


def test_a_secret_is_printed_once_and_alone(run: Run) -> None:
    run("create", "made")
    made = run("credentials", "made")
    lines = dict(line.split("=", 1) for line in made.stdout.splitlines())
    assert set(lines) == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    assert made.stderr == "This is the only time that the secret is shown: keep it.\n"
    spelt = said(run("credentials", "made", "--json", "--access", "read-only", "--prefix", "a/b"))
    assert (spelt["bucket"], spelt["access"], spelt["prefix"]) == ("made", "read-only", "a/b")
    secrets = {lines["AWS_SECRET_ACCESS_KEY"], spelt["secret_access_key"]}
    others = [
        run("keys", "made"),
        run("keys", "made", "--json"),
        run("policies", "made"),
        run("policy", spelt["policy_arn"]),
        run("policy", spelt["policy_arn"], "--json"),
        run("revoke", "made", spelt["access_key_id"], "--yes"),
    ]
    assert all(len(secret) == 40 and secret not in other.output for secret in secrets for other in others)


def test_keys_are_listed_and_revoked(run: Run, has: Callable[[], set[str]]) -> None:
    made = said(run("create", "made", "--credentials", "--json"))
    head, row = run("keys", "made").stdout.splitlines()
    assert head.split() == ["access_key_id", "user", "policy_arn", "created_at"]
    assert row.split()[:3] == [made["access_key_id"], made["user"], made["policy_arn"]]
    assert said(run("policies", "made", "--json"))["arn"] == made["policy_arn"]
    shown = run("policy", made["policy_arn"]).stdout
    assert re.search(rf"^attached to +{made['user']}$", shown, re.MULTILINE)
    assert '"Resource": "arn:aws:s3:::made/*"' in shown
    assert said(run("policy", made["policy_arn"], "--json"))["document"]["Version"] == "2012-10-17"
    assert "locked out" in run("revoke", "made", made["access_key_id"], code=2).stderr
    assert run("revoke", "made", made["access_key_id"], "--yes").stdout == f"revoked {made['access_key_id']}\n"
    assert has() == {"bucket made"}


def test_a_secret_goes_into_a_new_file_of_ones_own(run: Run, tmp_path: Path, has: Callable[[], set[str]]) -> None:
    file = tmp_path / "secret"
    made = run("create", "made", "--credentials", "--output", str(file))
    assert made.stdout == ""
    assert made.stderr == f"written to {file}, which nobody else may read\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    text = file.read_text()
    assert text.startswith("AWS_ACCESS_KEY_ID=")
    before = has()
    refused = run("credentials", "made", "--output", str(file), code=2)
    assert "A file that is there is not overwritten" in refused.stderr
    assert file.read_text() == text
    run("credentials", "no-such-bucket", "--output", str(tmp_path / "other"), code=1)
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]
    assert has() == before


@pytest.mark.skipif(not DEVICE.exists(), reason="this system has no /dev/full")
def test_a_secret_that_cannot_be_shown_is_revoked(run: Run, place: list[str], has: Callable[[], set[str]]) -> None:
    run("create", "made")
    with DEVICE.open("w") as full:
        failed = subprocess.run(
            [*RINDLE, "buckets", "credentials", "made", *place],
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
    assert "could not be written (No space left on device), so they were revoked" in failed.stderr
    assert failed.returncode != 0
    assert has() == {"bucket made"}


async def test_an_interrupted_command_leaves_nothing(moto: S3Server, account: Account) -> None:
    bucket = await account.new_bucket()
    async with IamProxy(moto.endpoint) as proxy:
        proxy.iam_faults.append(IamFault("AttachUserPolicy", how="hold"))
        where = ("--endpoint", proxy.endpoint, "--iam-endpoint", proxy.endpoint, "--region", "us-east-1")
        process = await asyncio.create_subprocess_exec(
            *RINDLE, "buckets", "credentials", bucket, *where, env=environment(), stdout=subprocess.PIPE
        )
        await proxy.held_action.wait()
        process.send_signal(signal.SIGINT)
        printed, _ = await process.communicate()
    assert (process.returncode, printed) == (1, b"")
    assert await account.has() == {f"bucket {bucket}"}


def test_the_stores_url_says_where(run: Run, moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINDLE_STORE", moto.url("of-the-store/a/prefix"))
    assert run("ensure", at=[]).stdout == "made the bucket of-the-store\n"
    assert run("ensure", at=[]).stdout == "the bucket of-the-store is there\n"
    monkeypatch.setenv("RINDLE_STORE", "memory://")
    assert "say which bucket" in run("ensure", code=2).stderr


def test_who_does_not_say_where_iam_is_makes_nothing(run: Run, moto: S3Server, has: Callable[[], set[str]]) -> None:
    refused = run("create", "made", "--credentials", code=1, at=["--endpoint", moto.endpoint, "--region", "us-east-1"])
    assert isinstance(refused.exception, ConfigurationError)
    assert has() == set()


def test_errors_are_one_line(place: list[str]) -> None:
    refused = run_rindle("buckets", "rm", "no-such-bucket", "--yes", *place)
    assert (refused.returncode, refused.stderr) == (5, "error: there is no bucket no-such-bucket\n")


def test_a_service_that_does_not_answer(run: Run) -> None:
    refused = run("ls", code=1, at=["--endpoint", "http://127.0.0.1:1", "--region", "us-east-1"])
    assert isinstance(refused.exception, RindleError)
    assert exit_code_of(refused.exception) == UNREACHABLE
    assert str(refused.exception).startswith("s3: Could not connect")
