"""What the suites do often."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from rindle.objectstore.base import MultipartStore, ObjectStore
from rindle.objectstore.errors import ObjectStoreError, UnsupportedOperationError
from rindle.objectstore.types import Attributes, MultipartOptions, MultipartRef, PutOptions
from rindle.testing.payloads import HeldPayload

CREATE = PutOptions(mode="create")
LARGE = 5 << 20  # more than any store sends or writes at a time
HOUR = timedelta(hours=1)
SPECIAL_KEYS = (
    "with space.txt",
    "é.txt",
    "😀.txt",
    "special!@#$%.txt",
    "a+b.txt",
    "a%2Fb.txt",
    "a%252Fb.txt",
    "quote'\".txt",
    "query?a=1&b=2;c#d.txt",
    "(round)[square]{curly}<angle>.txt",
    "*,:;=~`^|_-.txt",
    "back\\slash.txt",
    " edges ",
    ".hidden",
    "..two",
    "three...",
    "nested/é/😀/.x/..y",
    "/".join(["x" * 200] * 5),
)
INVALID_KEYS = ("", "/", "/a", "a/", "a//b", ".", "..", "a/./b", "a/../b", "a\nb", "a\x00b", "\ud800", "x" * 1025)
ATTRIBUTES = Attributes(
    content_type="text/plain; charset=utf-8",
    content_disposition='attachment; filename="a.txt"',
    content_encoding="identity",
    content_language="de",
    cache_control="private, max-age=60",
    metadata={"owner": "me", "title": "Grüße, 100 % + more"},
)
TAGS = {"kind": "test", "stage": "one two"}


async def undeclared(declared: bool, attempt: Callable[[], Awaitable[object]]) -> bool:  # noqa: FBT001 - the question
    """Whether a capability is not declared; then it is also proved that the attempt is refused."""
    if declared:
        return False
    with pytest.raises(UnsupportedOperationError):
        await attempt()
    return True


async def outcome(attempt: Awaitable[object]) -> type[Exception] | None:
    """The kind of error that an attempt ends in."""
    try:
        await attempt
    except ObjectStoreError as error:
        return type(error)
    return None


async def fill(store: ObjectStore, keys: Iterable[str]) -> None:
    """Put an object under each key, a few at a time."""
    waiting = list(keys)
    for start in range(0, len(waiting), 50):
        await asyncio.gather(*(store.put(key, key.encode()) for key in waiting[start : start + 50]))


async def list_keys(store: ObjectStore, prefix: str = "", *, start_after: str | None = None) -> Sequence[str]:
    """All keys, in the order of the listing."""
    return [meta.key async for meta in store.list(prefix, start_after=start_after)]


async def list_pages(store: ObjectStore, prefix: str = "", *, delimiter: bool, limit: int) -> Sequence[Sequence[str]]:
    """The names on each page of a listing, objects and prefixes, sorted."""
    pages: list[Sequence[str]] = []
    token: str | None = None
    while True:
        page = await store.list_page(prefix, delimiter=delimiter, token=token, limit=limit)
        pages.append(sorted([*(meta.key for meta in page.objects), *page.prefixes]))
        token = page.next_token
        if token is None:
            return pages


@asynccontextmanager
async def cancelled_midway(payload: HeldPayload, write: Awaitable[object]) -> AsyncIterator[None]:
    """Let a write begin to read its payload; look at the store meanwhile; then cancel it."""
    task = asyncio.ensure_future(write)
    try:
        await payload.begun.wait()
        yield
    finally:
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def part_size(store: MultipartStore) -> int:
    """A size for parts that are not the last."""
    return max(store.part_limits.min_size, 1000)


async def begin(store: MultipartStore, key: str = "key") -> MultipartRef:
    """Create a multipart of parts of :func:`part_size`."""
    return await store.create_multipart(key, MultipartOptions(part_size=part_size(store)))
