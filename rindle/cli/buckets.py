"""`rindle buckets`."""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import click

from rindle.cli.options import as_json as json_flag
from rindle.cli.options import confirmed, settings_from, settings_options
from rindle.cli.output import confirm, print_json, print_line, print_table, progress
from rindle.errors import ConfigurationError, RindleError

if TYPE_CHECKING:  # the SDK is an extra, and takes its time to load
    from rindle.buckets import BucketAdmin, Credentials, Emptied

Command = TypeVar("Command", bound=Callable[..., Any])
Flags = Any  # one for each option of the command

_OF_STORE = ("endpoint", "region", "profile", "aws_profile", "path_style")
_PLACE = ("endpoint", "iam_endpoint", "region", "profile", "aws_profile")
_PRIVATE = 0o600


@click.group()
def buckets() -> None:
    """Make and delete buckets, and access keys that may use one of them.

    Where they are is said by flags, else by the store's URL, else by what the AWS SDK finds; who asks, by the SDK
    alone: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, a role.
    """


def _decorated(*decorators: Callable[[Any], Any]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


_place = _decorated(
    click.option("--endpoint", metavar="URL", help="The service, where it is not AWS."),
    click.option("--iam-endpoint", metavar="URL", help="Where it keeps its keys; known for AWS and Tigris."),
    click.option("--region", metavar="NAME", help="Where new buckets are made."),
    click.option("--profile", metavar="NAME", help="Which service it is, as in a store's URL."),
    click.option("--aws-profile", metavar="NAME", help="Which profile of ~/.aws says who asks."),
    settings_options("store"),
)
_credentials = _decorated(
    click.option(
        "--access",
        type=click.Choice(["read-only", "read-write"]),
        default="read-write",
        show_default=True,
        help="What the key may do.",
    ),
    click.option("--prefix", default="", metavar="PREFIX", help="Only with objects below this."),
    click.option("--user", metavar="NAME", help="Whose key: a user who is there. Default: a new one (AWS)."),
    click.option(
        "--output",
        type=click.Path(path_type=Path),
        help="A new file for the secret, for your eyes only. Default: it is printed.",
    ),
)
_bucket = click.argument("bucket")


@buckets.command()
@json_flag
@_place
def ls(*, as_json: bool, **flags: Flags) -> None:
    """List the buckets."""
    found = _run(flags, lambda admin, _: admin.list())
    _print(("name", "created_at", "region"), found, as_json=as_json)


@buckets.command()
@_bucket
@click.option("--credentials", is_flag=True, help="With an access key for it: both, or neither.")
@_credentials
@json_flag
@_place
def create(*, bucket: str, credentials: bool, as_json: bool, output: Path | None, **flags: Flags) -> None:
    """Make a bucket."""
    scope = _scope_from(flags)
    if credentials:

        def make(admin: "BucketAdmin") -> Awaitable["Credentials"]:
            return admin.create_with_credentials(bucket, **scope)

        _run(flags, lambda admin, _: _hand_out(admin, make, output, as_json=as_json))
        return
    if output is not None or scope != _scope_from({}):
        msg = "--access, --prefix, --user and --output are for --credentials"
        raise click.UsageError(msg)
    _run(flags, lambda admin, _: admin.create(bucket))
    _print_one({"name": bucket, "created": True}, f"made the bucket {bucket}", as_json=as_json)


@buckets.command()
@click.argument("bucket", required=False)
@json_flag
@_place
def ensure(*, bucket: str | None, as_json: bool, **flags: Flags) -> None:
    """Make a bucket, by default the store's, unless it is there."""

    async def make(admin: "BucketAdmin", of_store: str | None) -> tuple[str, bool]:
        name = bucket or of_store
        if name is None:
            msg = "say which bucket, or by --store s3://bucket or RINDLE_STORE which store's"
            raise click.UsageError(msg)
        return name, await admin.ensure_exists(name)

    name, made = _run(flags, make)
    said = f"made the bucket {name}" if made else f"the bucket {name} is there"
    _print_one({"name": name, "created": made}, said, as_json=as_json)


@buckets.command()
@_bucket
@click.option("--force", is_flag=True, help="Even if it is not empty: what is in it is lost.")
@confirmed
@json_flag
@_place
def rm(*, bucket: str, force: bool, yes: bool, as_json: bool, **flags: Flags) -> None:
    """Delete a bucket. One that is not empty stays, unless it is forced."""
    with_all = ", and everything in it with all versions, for ever" if force else ""
    confirm(f"Delete the bucket {bucket}{with_all}?", yes=yes)

    async def delete(admin: "BucketAdmin", _: str | None) -> "Emptied":
        so_far: list[Emptied] = []
        async with progress(lambda: _spell_emptied(so_far[-1]) if so_far else "looking"):
            return await admin.delete(bucket, force=force, on_progress=so_far.append)

    gone = _run(flags, delete)
    said = f"deleted the bucket {bucket}" + (f" with {_spell_emptied(gone)}" if force else "")
    _print_one({"name": bucket, "deleted": asdict(gone)}, said, as_json=as_json)


@buckets.command()
@_bucket
@_credentials
@json_flag
@_place
def credentials(*, bucket: str, as_json: bool, output: Path | None, **flags: Flags) -> None:
    """Make an access key that may use a bucket, and nothing else.

    Its secret is shown this once, as lines for an environment file or as JSON.
    """
    scope = _scope_from(flags)

    def make(admin: "BucketAdmin") -> Awaitable["Credentials"]:
        return admin.generate_credentials(bucket, **scope)

    _run(flags, lambda admin, _: _hand_out(admin, make, output, as_json=as_json))


@buckets.command()
@_bucket
@json_flag
@_place
def keys(*, bucket: str, as_json: bool, **flags: Flags) -> None:
    """List the access keys that were made for a bucket."""
    found = _run(flags, lambda admin, _: admin.list_keys(bucket))
    _print(("access_key_id", "user", "policy_arn", "created_at"), found, as_json=as_json)


@buckets.command()
@_bucket
@click.argument("access_key_id")
@confirmed
@json_flag
@_place
def revoke(*, bucket: str, access_key_id: str, yes: bool, as_json: bool, **flags: Flags) -> None:
    """Remove an access key that was made for a bucket, with its policy and its user."""
    confirm(f"Remove the access key {access_key_id}? Whoever uses it is locked out.", yes=yes)
    _run(flags, lambda admin, _: admin.revoke_credentials(bucket, access_key_id))
    _print_one({"access_key_id": access_key_id, "revoked": True}, f"revoked {access_key_id}", as_json=as_json)


@buckets.command()
@_bucket
@json_flag
@_place
def policies(*, bucket: str, as_json: bool, **flags: Flags) -> None:
    """List the policies that were made for a bucket."""
    found = _run(flags, lambda admin, _: admin.list_policies(bucket))
    _print(("name", "arn", "created_at"), found, as_json=as_json)


@buckets.command()
@click.argument("arn")
@json_flag
@_place
def policy(*, arn: str, as_json: bool, **flags: Flags) -> None:
    """Show what a policy says, and for whom."""
    found = _to_json(_run(flags, lambda admin, _: admin.get_policy(arn)))
    if as_json:
        print_json(found)
        return
    shown = [*((name, found[name]) for name in ("name", "arn", "created_at"))]
    print_table(("", ""), [*shown, *(("attached to", holder) for holder in found["attached_to"])])
    click.echo()
    print_json(found["document"])


def _scope_from(flags: dict[str, Any]) -> dict[str, Any]:
    defaults = {"access": "read-write", "prefix": "", "user": None}
    return {name: flags.pop(name, default) for name, default in defaults.items()}


def _run(flags: dict[str, Any], work: Callable[["BucketAdmin", str | None], Coroutine[Any, Any, Any]]) -> Any:  # noqa: ANN401 - what the work gives
    """Do some work at the place that the flags say; the work is told which bucket is the store's."""
    place = {name: value for name in _PLACE if (value := flags.pop(name)) is not None}
    store = settings_from(flags).store
    try:
        from rindle.buckets import AdminOptions, BucketAdmin  # noqa: PLC0415 - see above
        from rindle.buckets.errors import InvalidBucketNameError, InvalidScopeError  # noqa: PLC0415 - with it
        from rindle.objectstore.s3.options import parse_url  # noqa: PLC0415 - with it
    except ModuleNotFoundError as error:
        msg = "buckets need the SDK: pip install 'rindle-uploads[s3]'"
        raise ConfigurationError(msg) from error
    of_store = parse_url(urlsplit(store)) if store is not None and store.startswith("s3://") else None
    if of_store is not None and place.get("endpoint") in {None, of_store.endpoint}:
        place = {**{name: getattr(of_store, name) for name in _OF_STORE}, **place}

    async def run() -> object:
        async with BucketAdmin(AdminOptions(**place)) as admin:
            return await work(admin, None if of_store is None else of_store.bucket)

    try:
        return asyncio.run(run())
    except (InvalidBucketNameError, InvalidScopeError) as error:
        raise click.UsageError(str(error)) from error


async def _hand_out(
    admin: "BucketAdmin",
    make: Callable[["BucketAdmin"], Awaitable["Credentials"]],
    output: Path | None,
    *,
    as_json: bool,
) -> None:
    """Make credentials, and write them where they belong; those that cannot be written are of no use to anybody."""
    with _destination(output) as write:
        made = await make(admin)
        try:
            write(_spell_credentials(made, as_json=as_json))
        except OSError as error:
            await admin.revoke_credentials(made.scope.bucket, made.access_key_id)
            msg = f"the credentials could not be written ({error.strerror}), so they were revoked"
            raise RindleError(msg) from error
    if output is None:
        click.echo("This is the only time that the secret is shown: keep it.", err=True)
    else:
        click.echo(f"written to {output}, which nobody else may read", err=True)


@contextmanager
def _destination(output: Path | None) -> Iterator[Callable[[str], None]]:
    """How to write a secret: to standard output, or into a file that is new, and gone again if this fails."""
    if output is None:
        yield _write_out
        return
    try:
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE)
    except OSError as error:
        msg = f"{output} cannot be made: {error.strerror}. A file that is there is not overwritten"
        raise click.UsageError(msg) from error
    try:
        with os.fdopen(file, "w", encoding="utf-8") as opened:

            def write(text: str) -> None:
                opened.write(text)
                opened.flush()
                os.fsync(opened.fileno())

            yield write
    except BaseException:
        output.unlink(missing_ok=True)
        raise


def _write_out(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _spell_credentials(made: "Credentials", *, as_json: bool) -> str:
    secret = made.secret_access_key.reveal()
    if not as_json:
        return f"AWS_ACCESS_KEY_ID={made.access_key_id}\nAWS_SECRET_ACCESS_KEY={secret}\n"
    said = {
        **asdict(made.scope),
        "access_key_id": made.access_key_id,
        "secret_access_key": secret,
        "user": made.user,
        "policy_arn": made.policy_arn,
    }
    return json.dumps(said, indent=2) + "\n"


def _spell_emptied(gone: "Emptied") -> str:
    return f"{gone.objects} objects and {gone.multiparts} unfinished multiparts"


def _print(head: Sequence[str], found: Sequence[Any], *, as_json: bool) -> None:
    """A table with these fields; or all fields of each on a line."""
    shown = [_to_json(each) for each in found]
    if as_json:
        for each in shown:
            print_line(each)
    else:
        print_table(head, [[each[name] for name in head] for each in shown])


def _print_one(said: dict[str, Any], text: str, *, as_json: bool) -> None:
    if as_json:
        print_json(said)
    else:
        click.echo(text)


def _to_json(found: Any) -> dict[str, Any]:  # noqa: ANN401 - one of several dataclasses
    fields: dict[str, Any] = asdict(found)
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in fields.items()}
