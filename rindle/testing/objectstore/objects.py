"""The contract of :class:`ObjectStore`.

::

    class TestMyStore(ObjectStoreContract):
        @pytest.fixture
        async def store(self) -> AsyncIterator[ObjectStore]:
            async with MyStore(...) as store:
                yield store

The ``store`` fixture gives a store with nothing in it. What the store declares in its capabilities is proved; what it
does not declare must be refused before any I/O. Needs pytest and pytest-asyncio.
"""

import asyncio
import urllib.request
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta

import pytest

from rindle.objectstore.base import ObjectStore, SignedMethod
from rindle.objectstore.errors import (
    AlreadyExistsError,
    IntegrityError,
    InvalidKeyError,
    InvalidRangeError,
    NotFoundError,
    NotModifiedError,
    PreconditionFailedError,
)
from rindle.objectstore.ext import exists, read
from rindle.objectstore.payload import BytesPayload, crc64nvme
from rindle.objectstore.types import (
    Attributes,
    ByteRange,
    GetOptions,
    PutOptions,
    SuffixRange,
    UpdateVersion,
)
from rindle.testing.objectstore.helpers import (
    ATTRIBUTES,
    CREATE,
    HOUR,
    INVALID_KEYS,
    LARGE,
    SPECIAL_KEYS,
    TAGS,
    cancelled_midway,
    fill,
    list_keys,
    list_pages,
    outcome,
    undeclared,
)
from rindle.testing.objectstore.streams import StreamsContract
from rindle.testing.payloads import (
    FailingPayload,
    HeldPayload,
    MislabelledPayload,
    SourceFailedError,
    UntouchablePayload,
)


class ObjectStoreContract(StreamsContract):
    """For every :class:`ObjectStore`.

    ``refused_keys``: those of the keys with odd characters that the store refuses, because the service behind it would
    take them for others.
    """

    refused_keys: frozenset[str] = frozenset()

    pytestmark = pytest.mark.asyncio

    # Writing and reading

    async def test_what_is_put_is_read_back(self, store: ObjectStore) -> None:
        await store.put("key", b"some bytes")
        result = await store.get("key")
        assert (result.meta.key, result.meta.size, result.range) == ("key", 10, (0, 10))
        assert await result.read() == b"some bytes"

    async def test_an_object_may_be_empty(self, store: ObjectStore) -> None:
        await store.put("key", b"")
        assert (await store.head("key")).size == 0
        assert await read(store, "key") == b""

    async def test_a_payload_of_many_chunks_is_one_object(self, store: ObjectStore) -> None:
        chunks = [bytes([number % 256]) * (number % 977) for number in range(3000)]
        await store.put("key", BytesPayload(*chunks))
        assert await read(store, "key") == b"".join(chunks)

    async def test_a_large_object_is_streamed_in_order(self, store: ObjectStore) -> None:
        data = bytes(range(256)) * (LARGE // 256)
        await store.put("key", data)
        async with await store.get("key") as result:
            assert b"".join([chunk async for chunk in result]) == data

    async def test_put_get_head_and_listing_agree_about_an_object(self, store: ObjectStore) -> None:
        result = await store.put("key", b"bytes")
        meta = await store.head("key")
        assert (meta.key, meta.size, meta.e_tag, meta.version) == ("key", 5, result.e_tag, result.version)
        assert meta.last_modified.utcoffset() == timedelta(0)
        (listed,) = [listed async for listed in store.list()]
        assert (listed.key, listed.size, listed.e_tag) == (meta.key, meta.size, meta.e_tag)
        async with await store.get("key") as opened:
            assert opened.meta == meta

    async def test_a_put_replaces_the_object_whole(self, store: ObjectStore) -> None:
        first = await store.put("key", b"a long old text")
        second = await store.put("key", b"new")
        assert first.e_tag != second.e_tag
        assert await read(store, "key") == b"new"
        assert (await store.head("key")).e_tag == second.e_tag

    async def test_an_absent_object_is_not_found(self, store: ObjectStore) -> None:
        await store.put("other/key", b"")
        for key in ("key", "other", "other/key/more", "other/ke"):
            with pytest.raises(NotFoundError):
                await store.get(key)
            with pytest.raises(FileNotFoundError):
                await store.head(key)

    async def test_conditions_are_not_asked_of_an_absent_object(self, store: ObjectStore) -> None:
        for options in (GetOptions(if_match="*"), GetOptions(if_none_match="*"), GetOptions(range=ByteRange(5))):
            with pytest.raises(NotFoundError):
                await store.get("key", options)

    @pytest.mark.parametrize("key", SPECIAL_KEYS)
    async def test_a_key_may_hold_any_characters(self, store: ObjectStore, key: str) -> None:
        if key in self.refused_keys:
            await self._assert_refused(store, key)
            return
        await store.put(key, b"here")
        assert await read(store, key) == b"here"
        assert await list_keys(store) == [key]
        assert await list_keys(store, key[:3]) == [key]
        await store.delete(key)
        assert await list_keys(store) == []

    @pytest.mark.parametrize("key", INVALID_KEYS, ids=ascii)
    async def test_what_no_store_could_keep_apart_is_no_key(self, store: ObjectStore, key: str) -> None:
        await self._assert_refused(store, key)

    @staticmethod
    async def _assert_refused(store: ObjectStore, key: str) -> None:
        attempts: Sequence[Callable[[], Awaitable[object]]] = (
            lambda: store.put(key, UntouchablePayload()),
            lambda: store.get(key),
            lambda: store.head(key),
            lambda: store.delete(key),
            lambda: store.delete_many([key]),
            lambda: store.copy(key, "target"),
            lambda: store.copy("source", key),
        )
        for attempt in attempts:
            with pytest.raises(InvalidKeyError):
                await attempt()

    async def test_a_key_that_differs_in_case_is_another(self, store: ObjectStore) -> None:
        await store.put("Key", b"large")
        await store.put("key", b"small")
        assert (await read(store, "Key"), await read(store, "key")) == (b"large", b"small")

    # What a reader sees

    async def test_a_write_whose_payload_fails_leaves_the_old_object(self, store: ObjectStore) -> None:
        before = await store.put("key", b"old")
        with pytest.raises(SourceFailedError):
            await store.put("key", FailingPayload(bytes(LARGE)))
        assert await read(store, "key", GetOptions(if_match=before.e_tag)) == b"old"
        assert await list_keys(store) == ["key"]

    async def test_a_write_whose_payload_fails_leaves_nothing_under_a_new_key(self, store: ObjectStore) -> None:
        with pytest.raises(SourceFailedError):
            await store.put("a/key", FailingPayload(bytes(LARGE)))
        assert not await exists(store, "a/key")
        assert await list_keys(store) == []

    async def test_a_write_under_way_is_not_seen_and_when_cancelled_never_was(self, store: ObjectStore) -> None:
        before = await store.put("key", b"old")
        payload = HeldPayload(bytes(LARGE), b"rest")
        async with cancelled_midway(payload, store.put("key", payload)):
            assert await read(store, "key") == b"old"
        assert await read(store, "key", GetOptions(if_match=before.e_tag)) == b"old"

    async def test_a_cancelled_write_leaves_nothing_under_a_new_key(self, store: ObjectStore) -> None:
        payload = HeldPayload(bytes(LARGE), b"rest")
        async with cancelled_midway(payload, store.put("a/key", payload)):
            assert await list_keys(store) == []
        assert not await exists(store, "a/key")
        assert await list_keys(store) == []

    @pytest.mark.parametrize("size", [9, 11])
    async def test_a_payload_of_another_size_than_it_said_is_refused(self, store: ObjectStore, size: int) -> None:
        await store.put("key", b"old")
        with pytest.raises(IntegrityError):
            await store.put("key", MislabelledPayload(b"ten bytes.", size=size))
        assert await read(store, "key") == b"old"

    async def test_bytes_that_are_not_those_of_the_digest_are_refused(self, store: ObjectStore) -> None:
        with pytest.raises(IntegrityError):
            await store.put("key", BytesPayload(b"some ", b"bytes", crc64nvme=1))
        assert not await exists(store, "key")

    async def test_bytes_that_are_those_of_the_digest_are_taken(self, store: ObjectStore) -> None:
        data = bytes(range(256)) * (LARGE // 256)
        await store.put("key", BytesPayload(data[:1000], data[1000:], crc64nvme=crc64nvme(data)))
        assert await read(store, "key") == data

    async def test_a_reader_sees_one_version_whatever_is_written_meanwhile(self, store: ObjectStore) -> None:
        old = b"o" * LARGE
        await store.put("key", old)
        async with await store.get("key") as result:
            begun = await anext(aiter(result))
            await store.put("key", b"n" * LARGE)
            await store.delete("key")
            assert begun + await result.read() == old

    async def test_a_reader_may_leave_early_and_close_twice(self, store: ObjectStore) -> None:
        await store.put("key", bytes(LARGE))
        result = await store.get("key")
        await anext(aiter(result))
        await result.aclose()
        await result.aclose()
        unread = await store.get("key")
        await unread.aclose()

    async def test_many_may_read_at_once(self, store: ObjectStore) -> None:
        await store.put("key", b"bytes")
        assert set(await asyncio.gather(*(read(store, "key") for _ in range(30)))) == {b"bytes"}

    # Create and update

    async def test_create_writes_what_is_not_there(self, store: ObjectStore) -> None:
        create = store.capabilities.put_create
        if await undeclared(create, lambda: store.put("key", UntouchablePayload(), CREATE)):
            return
        result = await store.put("key", b"new", CREATE)
        assert await read(store, "key", GetOptions(if_match=result.e_tag)) == b"new"

    async def test_create_changes_nothing_where_the_key_is_taken(self, store: ObjectStore) -> None:
        if not store.capabilities.put_create:
            return
        before = await store.put("key", b"old")
        with pytest.raises(AlreadyExistsError):
            await store.put("key", b"new", CREATE)
        with pytest.raises(FileExistsError):
            await store.put("key", b"", CREATE)
        assert await read(store, "key", GetOptions(if_match=before.e_tag)) == b"old"

    async def test_create_after_delete_succeeds(self, store: ObjectStore) -> None:
        if not store.capabilities.put_create:
            return
        await store.put("key", b"old", CREATE)
        await store.delete("key")
        await store.put("key", b"new", CREATE)
        assert await read(store, "key") == b"new"

    async def test_of_many_who_create_one_wins(self, store: ObjectStore) -> None:
        if not store.capabilities.put_create:
            return
        bodies = [f"writer {number}".encode() for number in range(20)]
        kinds = await asyncio.gather(*(outcome(store.put("race/key", body, CREATE)) for body in bodies))
        assert sorted(kinds, key=str) == [AlreadyExistsError] * 19 + [None]
        assert await read(store, "race/key") == bodies[kinds.index(None)]

    async def test_update_replaces_the_version_it_names(self, store: ObjectStore) -> None:
        update = store.capabilities.put_update
        options = PutOptions(mode=UpdateVersion(e_tag="any"))
        if await undeclared(update, lambda: store.put("key", UntouchablePayload(), options)):
            return
        before = await store.put("key", b"old")
        result = await store.put("key", b"new", PutOptions(mode=UpdateVersion(before.e_tag, before.version)))
        assert await read(store, "key", GetOptions(if_match=result.e_tag)) == b"new"

    async def test_update_changes_nothing_where_there_is_another_version(self, store: ObjectStore) -> None:
        if not store.capabilities.put_update:
            return
        first = await store.put("key", b"first")
        second = await store.put("key", b"second")
        for stale in (UpdateVersion(first.e_tag, first.version), UpdateVersion("another")):
            with pytest.raises(PreconditionFailedError):
                await store.put("key", b"third", PutOptions(mode=stale))
        assert await read(store, "key", GetOptions(if_match=second.e_tag)) == b"second"

    async def test_update_does_not_bring_back_what_was_deleted(self, store: ObjectStore) -> None:
        if not store.capabilities.put_update:
            return
        before = await store.put("key", b"old")
        await store.delete("key")
        with pytest.raises(PreconditionFailedError):
            await store.put("key", b"new", PutOptions(mode=UpdateVersion(before.e_tag, before.version)))
        assert not await exists(store, "key")

    async def test_of_many_updates_none_is_lost(self, store: ObjectStore) -> None:
        if not store.capabilities.put_update:
            return
        await store.put("counter", b"0")

        async def increment() -> None:
            while True:
                found = await store.get("counter")
                value = int(await found.read()) + 1
                seen = UpdateVersion(found.meta.e_tag, found.meta.version)
                if await outcome(store.put("counter", str(value).encode(), PutOptions(mode=seen))) is None:
                    return

        await asyncio.gather(*(increment() for _ in range(20)))
        assert await read(store, "counter") == b"20"

    async def test_a_version_is_refused_where_there_are_none(self, store: ObjectStore) -> None:
        versions = store.capabilities.versions
        options = GetOptions(version="1")
        if await undeclared(versions, lambda: store.get("key", options)):
            assert await undeclared(versions, lambda: store.head("key", options))
            mode = UpdateVersion("e_tag", "version")
            assert await undeclared(versions, lambda: store.put("key", UntouchablePayload(), PutOptions(mode=mode)))
            return
        old = await store.put("key", b"old")
        await store.put("key", b"new")
        assert await read(store, "key", GetOptions(version=old.version)) == b"old"

    # Conditions and ranges

    async def assert_ends(self, store: ObjectStore, expected: type[Exception] | None, options: GetOptions) -> None:
        """Both ways to ask for an object end like this under these conditions: before the first byte."""
        assert await outcome(store.head("key", options)) == expected, options
        assert await outcome(read(store, "key", options)) == expected, options

    async def test_if_match_is_for_the_version_one_knows(self, store: ObjectStore) -> None:
        await store.put("key", b"bytes")
        e_tag = (await store.head("key")).e_tag
        for condition in (e_tag, f'"{e_tag}"', f'"other", "{e_tag}"', "*"):
            await self.assert_ends(store, None, GetOptions(if_match=condition))
        for condition in ("other", '"other", "another"'):
            await self.assert_ends(store, PreconditionFailedError, GetOptions(if_match=condition))

    async def test_if_none_match_is_for_a_version_one_does_not_know(self, store: ObjectStore) -> None:
        await store.put("key", b"bytes")
        e_tag = (await store.head("key")).e_tag
        for condition in (e_tag, f'"other", "{e_tag}"', "*"):
            await self.assert_ends(store, NotModifiedError, GetOptions(if_none_match=condition))
        await self.assert_ends(store, None, GetOptions(if_none_match="other"))

    async def test_if_modified_since_is_for_what_came_later(self, store: ObjectStore) -> None:
        await store.put("key", b"bytes")
        modified = (await store.head("key")).last_modified
        for instant in (modified, _whole(modified)):
            await self.assert_ends(store, NotModifiedError, GetOptions(if_modified_since=instant))
        await self.assert_ends(store, None, GetOptions(if_modified_since=modified - HOUR))

    async def test_if_unmodified_since_is_for_what_was_there_before(self, store: ObjectStore) -> None:
        await store.put("key", b"bytes")
        modified = (await store.head("key")).last_modified
        for instant in (modified, _whole(modified)):
            await self.assert_ends(store, None, GetOptions(if_unmodified_since=instant))
        await self.assert_ends(store, PreconditionFailedError, GetOptions(if_unmodified_since=modified - HOUR))

    async def test_e_tags_go_before_instants_and_what_must_hold_before_what_is_worth_while(
        self, store: ObjectStore
    ) -> None:
        await store.put("key", b"bytes")
        meta = await store.head("key")
        e_tag, modified, before = meta.e_tag, meta.last_modified, meta.last_modified - HOUR
        check = self.assert_ends
        await check(store, None, GetOptions(if_match=e_tag, if_unmodified_since=before))
        await check(store, PreconditionFailedError, GetOptions(if_match="other", if_unmodified_since=modified))
        await check(store, None, GetOptions(if_none_match="other", if_modified_since=modified))
        await check(store, NotModifiedError, GetOptions(if_none_match=e_tag, if_modified_since=before))
        await check(store, PreconditionFailedError, GetOptions(if_match="other", if_none_match=e_tag))
        await check(store, NotModifiedError, GetOptions(if_match=e_tag, if_none_match=e_tag))

    @pytest.mark.parametrize(
        ("requested", "start", "end"),
        [
            (ByteRange(0, 1), 0, 1),
            (ByteRange(2, 5), 2, 5),
            (ByteRange(0), 0, 10),
            (ByteRange(9), 9, 10),
            (ByteRange(4, 1000), 4, 10),
            (SuffixRange(3), 7, 10),
            (SuffixRange(10), 0, 10),
            (SuffixRange(1000), 0, 10),
        ],
    )
    async def test_a_range_gives_these_bytes(
        self, store: ObjectStore, requested: ByteRange | SuffixRange, start: int, end: int
    ) -> None:
        data = b"0123456789"
        await store.put("key", data)
        result = await store.get("key", GetOptions(range=requested))
        assert (result.range, result.meta.size) == ((start, end), 10)
        assert await result.read() == data[start:end]

    @pytest.mark.parametrize("requested", [ByteRange(10), ByteRange(10, 12), ByteRange(1000)])
    async def test_a_range_after_the_end_is_an_error(self, store: ObjectStore, requested: ByteRange) -> None:
        await store.put("key", b"0123456789")
        with pytest.raises(InvalidRangeError):
            await store.get("key", GetOptions(range=requested))

    @pytest.mark.parametrize("requested", [ByteRange(0), ByteRange(0, 1), SuffixRange(1)])
    async def test_an_empty_object_has_no_ranges(self, store: ObjectStore, requested: ByteRange | SuffixRange) -> None:
        await store.put("key", b"")
        with pytest.raises(InvalidRangeError):
            await store.get("key", GetOptions(range=requested))

    async def test_whoever_asks_to_see_all_that_was_written_sees_it(self, store: ObjectStore) -> None:
        await store.put("key", b"bytes")
        asked = GetOptions(consistent=True)
        if await undeclared(store.capabilities.consistency != "eventual", lambda: store.get("key", asked)):
            assert await undeclared(declared=False, attempt=lambda: store.list_page(consistent=True))
            return
        assert await read(store, "key", asked) == b"bytes"
        assert (await store.head("key", asked)).size == 5
        assert [meta.key async for meta in store.list(consistent=True)] == ["key"]

    async def test_a_get_of_the_head_alone_gives_no_bytes(self, store: ObjectStore) -> None:
        await store.put("key", b"bytes")
        result = await store.get("key", GetOptions(head=True))
        assert result.meta == await store.head("key")
        assert await result.read() == b""

    # Deleting

    async def test_delete_removes_and_may_be_repeated(self, store: ObjectStore) -> None:
        await store.put("a/key", b"bytes")
        await store.delete("a/key")
        await store.delete("a/key")
        await store.delete("never/was")
        await store.delete("a")
        assert not await exists(store, "a/key")
        assert await list_keys(store) == []

    async def test_delete_leaves_the_neighbours(self, store: ObjectStore) -> None:
        await fill(store, ["a/b/one", "a/b/two", "a/one"])
        await store.delete("a/b/one")
        assert await list_keys(store) == ["a/b/two", "a/one"]

    async def test_delete_many_answers_for_each_key_in_order(self, store: ObjectStore) -> None:
        keys = [f"folder {number % 7}/key {number}" for number in range(1500)]
        await fill(store, keys[::2])
        await store.put("stays", b"")
        results = await store.delete_many(keys)
        assert [(result.key, result.error) for result in results] == [(key, None) for key in keys]
        assert await list_keys(store) == ["stays"]

    async def test_delete_many_of_nothing_does_nothing(self, store: ObjectStore) -> None:
        assert list(await store.delete_many([])) == []

    # Listing

    async def test_a_listing_is_in_the_order_of_the_utf8_bytes(self, store: ObjectStore) -> None:
        keys = [
            "a/b",
            "a.txt",
            "a0",
            "a-b",
            "A",
            "ab/c",
            "ab",
            "é",
            "z",
            "\uff5e",
            "😀",
            "a b",
            "b/a/c",
            "b/a.c",
            "b/a0",
        ]
        keys.remove("ab")  # a key and one that goes on from it are more than some stores can keep
        await fill(store, keys)
        assert await list_keys(store) == sorted(keys, key=str.encode)

    async def test_a_listing_of_nothing_is_empty(self, store: ObjectStore) -> None:
        assert await list_keys(store) == []
        page = await store.list_page()
        assert (page.objects, page.prefixes, page.next_token) == ((), (), None)

    async def test_a_prefix_is_text_and_not_a_folder(self, store: ObjectStore) -> None:
        await fill(store, ["ab/c", "ab.txt", "abc/d/e", "a", "b/ab"])
        assert await list_keys(store, "ab") == ["ab.txt", "ab/c", "abc/d/e"]
        assert await list_keys(store, "ab/") == ["ab/c"]
        assert await list_keys(store, "abc/d") == ["abc/d/e"]
        assert await list_keys(store, "abc/d/e") == ["abc/d/e"]
        assert await list_keys(store, "abc/d/e/") == []

    @pytest.mark.parametrize("prefix", ["/", "//", "../", "a/../", "./", "a//", "..", "a/..", "x/y/z", "x" * 300 + "/"])
    async def test_a_prefix_that_no_key_has_lists_nothing(self, store: ObjectStore, prefix: str) -> None:
        await fill(store, ["a/b", "b"])
        assert await list_keys(store, prefix) == []
        assert (await store.list_with_delimiter(prefix)).prefixes == ()

    @pytest.mark.parametrize("limit", [1, 2, 3, 100])
    async def test_pages_give_every_key_once_in_order(self, store: ObjectStore, limit: int) -> None:
        keys = ["a/b/c", "a/b/d", "a/e", "a-", "b", "c/d/e/f", "d"]
        await fill(store, keys)
        pages = await list_pages(store, delimiter=False, limit=limit)
        assert [key for page in pages for key in page] == sorted(keys)
        assert all(len(page) <= limit for page in pages)

    @pytest.mark.parametrize(
        ("start_after", "expected"),
        [
            ("", ["a/b", "a/c", "a0", "b"]),
            ("a", ["a/b", "a/c", "a0", "b"]),
            ("a/b", ["a/c", "a0", "b"]),
            ("a/bb", ["a/c", "a0", "b"]),
            ("a/c", ["a0", "b"]),
            ("a/", ["a/b", "a/c", "a0", "b"]),
            ("a00", ["b"]),
            ("b", []),
            ("z", []),
        ],
    )
    async def test_a_listing_starts_after_a_key(
        self, store: ObjectStore, start_after: str, expected: Sequence[str]
    ) -> None:
        await fill(store, ["a/b", "a/c", "a0", "b"])
        assert await list_keys(store, start_after=start_after) == expected

    async def test_start_after_and_prefix_both_hold(self, store: ObjectStore) -> None:
        await fill(store, ["a/b", "a/c", "a/d", "b"])
        assert await list_keys(store, "a/", start_after="a/b") == ["a/c", "a/d"]

    async def test_a_delimiter_shows_the_direct_children(self, store: ObjectStore) -> None:
        await fill(store, ["a/b", "a/c/d", "a/c/e", "a/f.txt", "a.txt", "ab/c", "b"])
        root = await store.list_with_delimiter()
        assert ([meta.key for meta in root.objects], root.prefixes) == (["a.txt", "b"], ("a/", "ab/"))
        below = await store.list_with_delimiter("a/")
        assert ([meta.key for meta in below.objects], below.prefixes) == (["a/b", "a/f.txt"], ("a/c/",))
        part = await store.list_with_delimiter("a")
        assert ([meta.key for meta in part.objects], part.prefixes) == (["a.txt"], ("a/", "ab/"))

    @pytest.mark.parametrize("limit", [1, 2, 3])
    async def test_pages_with_a_delimiter_give_every_child_once(self, store: ObjectStore, limit: int) -> None:
        await fill(store, ["a/1", "a/2", "a/3", "b", "c/d/1", "c/d/2", "c0", "d/1"])
        pages = await list_pages(store, delimiter=True, limit=limit)
        assert [name for page in pages for name in page] == ["a/", "b", "c/", "c0", "d/"]
        assert all(len(page) <= limit for page in pages)

    async def test_a_prefix_without_objects_is_not_shown(self, store: ObjectStore) -> None:
        await fill(store, ["a/b/c", "d/e"])
        await store.delete("a/b/c")
        assert (await store.list_with_delimiter()).prefixes == ("d/",)

    async def test_what_is_put_between_two_pages_is_on_the_second(self, store: ObjectStore) -> None:
        await fill(store, ["a", "b", "d"])
        first = await store.list_page(limit=2)
        await store.put("c", b"")
        second = await store.list_page(token=first.next_token)
        assert [meta.key for meta in second.objects] == ["c", "d"]

    async def test_thousands_of_keys_come_in_pages(self, store: ObjectStore) -> None:
        keys = [f"{number % 5}/{number % 50}/{number}" for number in range(2500)]
        await fill(store, keys)
        assert await list_keys(store) == sorted(keys)
        pages = await list_pages(store, delimiter=False, limit=1000)
        assert len(pages) >= 3
        assert (await store.list_with_delimiter()).prefixes == ("0/", "1/", "2/", "3/", "4/")

    # Copies

    async def test_a_copy_has_the_bytes_and_stands_alone(self, store: ObjectStore) -> None:
        await store.put("source", b"bytes" * 1000)
        result = await store.copy("source", "a/target")
        await store.put("source", b"changed")
        await store.delete("source")
        assert await read(store, "a/target", GetOptions(if_match=result.e_tag)) == b"bytes" * 1000

    async def test_a_copy_replaces_the_target(self, store: ObjectStore) -> None:
        await store.put("source", b"new")
        await store.put("target", b"a longer old text")
        await store.copy("source", "target")
        assert await read(store, "target") == b"new"
        assert await read(store, "source") == b"new"

    async def test_a_copy_of_nothing_is_not_found_and_leaves_the_target(self, store: ObjectStore) -> None:
        await store.put("target", b"old")
        with pytest.raises(NotFoundError):
            await store.copy("source", "target")
        assert await read(store, "target") == b"old"

    async def test_a_copy_that_creates_leaves_what_is_there(self, store: ObjectStore) -> None:
        await store.put("source", b"new")
        create = store.capabilities.copy_create
        if await undeclared(create, lambda: store.copy("source", "target", mode="create")):
            assert not await exists(store, "target")
            return
        await store.copy("source", "target", mode="create")
        assert await read(store, "target") == b"new"
        await store.put("source", b"newer")
        with pytest.raises(AlreadyExistsError):
            await store.copy("source", "target", mode="create")
        assert await read(store, "target") == b"new"

    # Attributes and tags

    async def test_attributes_come_back_as_they_were_given(self, store: ObjectStore) -> None:
        options = PutOptions(attributes=ATTRIBUTES)
        if await undeclared(store.capabilities.attributes, lambda: store.put("key", UntouchablePayload(), options)):
            return
        await store.put("key", b"bytes", options)
        for head in (False, True):
            async with await store.get("key", GetOptions(head=head)) as result:
                assert result.attributes == ATTRIBUTES

    async def test_a_put_replaces_the_attributes_too(self, store: ObjectStore) -> None:
        if not store.capabilities.attributes:
            return
        await store.put("key", b"old", PutOptions(attributes=ATTRIBUTES))
        await store.put("key", b"new", PutOptions(attributes=Attributes(cache_control="no-store")))
        async with await store.get("key") as result:
            assert (result.attributes.cache_control, result.attributes.metadata) == ("no-store", {})

    async def test_tags_come_back_as_they_were_given(self, store: ObjectStore) -> None:
        options = PutOptions(tags=TAGS)
        if await undeclared(store.capabilities.tags, lambda: store.put("key", UntouchablePayload(), options)):
            assert await undeclared(store.capabilities.tags, lambda: store.get_tags("key"))
            assert await undeclared(store.capabilities.tags, lambda: store.put_tags("key", TAGS))
            return
        await store.put("key", b"bytes", options)
        assert await store.get_tags("key") == TAGS
        await store.put("key", b"bytes")
        assert await store.get_tags("key") == {}

    async def test_new_tags_replace_the_old_ones_and_nothing_else(self, store: ObjectStore) -> None:
        if not store.capabilities.tags:
            return
        kept = ATTRIBUTES if store.capabilities.attributes else Attributes()
        before = await store.put("key", b"bytes", PutOptions(attributes=kept, tags=TAGS))
        for tags in ({"only": "this"}, {}, {"one": "1", "two": "2"}):
            await store.put_tags("key", tags)
            assert await store.get_tags("key") == tags
        async with await store.get("key", GetOptions(if_match=before.e_tag)) as result:
            assert (result.attributes, await result.read()) == (kept, b"bytes")

    async def test_an_absent_object_has_no_tags(self, store: ObjectStore) -> None:
        if not store.capabilities.tags:
            return
        with pytest.raises(NotFoundError):
            await store.get_tags("key")
        with pytest.raises(NotFoundError):
            await store.put_tags("key", TAGS)
        assert not await exists(store, "key")

    async def test_a_copy_has_the_attributes_and_tags(self, store: ObjectStore) -> None:
        capabilities = store.capabilities
        attributes = ATTRIBUTES if capabilities.attributes else Attributes()
        tags = TAGS if capabilities.tags else {}
        await store.put("source", b"bytes", PutOptions(attributes=attributes, tags=tags))
        await store.copy("source", "target")
        async with await store.get("target") as result:
            assert result.attributes == attributes
        if capabilities.tags:
            assert await store.get_tags("target") == tags

    async def test_a_signed_url_lets_its_holder_read(self, store: ObjectStore) -> None:
        await store.put("a key é", b"bytes")
        signed = store.capabilities.signed_urls
        if await undeclared(signed, lambda: store.sign_url("GET", "a key é", HOUR)):
            return
        url = await store.sign_url("GET", "a key é", HOUR)
        assert await asyncio.to_thread(_request, "GET", url) == b"bytes"
        with pytest.raises(ValueError, match="for some time"):
            await store.sign_url("GET", "key", timedelta(0))

    @pytest.mark.parametrize("method", ["PUT", "HEAD", "DELETE"])
    async def test_a_signed_url_lets_its_holder_write_look_or_delete(
        self, store: ObjectStore, method: SignedMethod
    ) -> None:
        if await undeclared(store.capabilities.signed_urls, lambda: store.sign_url(method, "key", HOUR)):
            return
        await store.put("key", b"old")
        await asyncio.to_thread(_request, method, await store.sign_url(method, "key", HOUR))
        if method == "DELETE":
            assert not await exists(store, "key")
        else:
            assert await read(store, "key") == (b"by its holder" if method == "PUT" else b"old")


def _whole(instant: datetime) -> datetime:
    return instant.replace(microsecond=0)


def _request(method: str, url: str) -> bytes:
    body = b"by its holder" if method == "PUT" else None
    # Azure wants to know what it becomes; others do not look at that.
    headers = {"Content-Type": "application/octet-stream", "x-ms-blob-type": "BlockBlob"}
    request = urllib.request.Request(url, method=method, data=body, headers=headers)  # noqa: S310 - the store's own URL
    with urllib.request.urlopen(request) as answer:  # noqa: S310 - likewise
        data: bytes = answer.read()
        return data
