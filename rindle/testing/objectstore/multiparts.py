"""The contract of :class:`MultipartStore`, which is that of :class:`ObjectStore` and more."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest

from rindle.objectstore.base import MultipartStore
from rindle.objectstore.errors import (
    AlreadyExistsError,
    IntegrityError,
    InvalidPartError,
    InvalidRangeError,
    MultipartNotFoundError,
    NotFoundError,
    TransientStoreError,
    UnsupportedOperationError,
)
from rindle.objectstore.ext import exists, read
from rindle.objectstore.payload import BytesPayload, crc64nvme
from rindle.objectstore.types import (
    Attributes,
    ByteRange,
    CopyMode,
    GetOptions,
    MultipartOptions,
    MultipartRef,
    PartMeta,
    PutOptions,
)
from rindle.testing.objectstore.helpers import (
    ATTRIBUTES,
    LARGE,
    TAGS,
    begin,
    cancelled_midway,
    list_keys,
    outcome,
    part_size,
    undeclared,
)
from rindle.testing.objectstore.objects import ObjectStoreContract
from rindle.testing.payloads import (
    FailingPayload,
    HeldPayload,
    MislabelledPayload,
    SourceFailedError,
    UntouchablePayload,
)


class MultipartStoreContract(ObjectStoreContract):
    """For every :class:`MultipartStore`."""

    def reopen(self, store: MultipartStore) -> MultipartStore:
        """Another instance on the same backend, as another process has it; where there can be none, the same one."""
        return store

    @staticmethod
    def part(store: MultipartStore, fill: str) -> bytes:
        """The bytes of a whole part."""
        return fill.encode() * part_size(store)

    async def test_parts_are_joined_by_number_and_not_by_arrival(self, store: MultipartStore) -> None:
        bodies = {1: self.part(store, "a"), 2: self.part(store, "b"), 3: b"short"}
        ref = await begin(store)
        parts = {number: await store.put_part(ref, number, bodies[number]) for number in (3, 1, 2)}
        result = await store.complete_multipart(ref, [parts[1], parts[2], parts[3]])
        data = bodies[1] + bodies[2] + bodies[3]
        assert await read(store, ref.key, GetOptions(if_match=result.e_tag)) == data
        assert (await store.head(ref.key)).size == len(data)

    async def test_parts_may_be_put_at_once(self, store: MultipartStore) -> None:
        bodies = [self.part(store, chr(ord("a") + number)) for number in range(8)]
        ref = await begin(store)
        parts = await asyncio.gather(*(store.put_part(ref, number, body) for number, body in enumerate(bodies, 1)))
        await store.complete_multipart(ref, parts)
        assert await read(store, ref.key) == b"".join(bodies)

    async def test_a_part_may_be_the_only_one_and_short(self, store: MultipartStore) -> None:
        ref = await begin(store)
        await store.complete_multipart(ref, [await store.put_part(ref, 1, b"x")])
        assert await read(store, ref.key) == b"x"

    async def test_nothing_is_seen_before_completion(self, store: MultipartStore) -> None:
        ref = await begin(store, "a/key")
        part = await store.put_part(ref, 1, b"part")
        assert not await exists(store, "a/key")
        assert await list_keys(store) == []
        await store.complete_multipart(ref, [part])
        assert await list_keys(store) == ["a/key"]

    async def test_completion_replaces_the_object_whole(self, store: MultipartStore) -> None:
        attributes = ATTRIBUTES if store.capabilities.attributes else Attributes()
        before = await store.put("key", b"old" * LARGE, PutOptions(attributes=attributes))
        ref = await begin(store)
        part = await store.put_part(ref, 1, b"new")
        async with await store.get("key") as reader:
            await store.complete_multipart(ref, [part])
            assert await reader.read() == b"old" * LARGE
        async with await store.get("key") as result:
            assert (result.attributes, await result.read()) == (Attributes(), b"new")
        assert (await store.head("key")).e_tag != before.e_tag

    async def test_attributes_and_tags_become_the_objects(self, store: MultipartStore) -> None:
        capabilities = store.capabilities
        options = MultipartOptions(
            part_size=part_size(store),
            attributes=ATTRIBUTES if capabilities.attributes else Attributes(),
            tags=TAGS if capabilities.tags and store.part_limits.tags else {},
        )
        ref = await store.create_multipart("key", options)
        await store.complete_multipart(ref, [await store.put_part(ref, 1, b"x")])
        async with await store.get("key") as result:
            assert result.attributes == options.attributes
        if capabilities.tags:
            assert await store.get_tags("key") == options.tags

    async def test_undeclared_attributes_and_tags_are_refused(self, store: MultipartStore) -> None:
        size = part_size(store)
        attributed = MultipartOptions(part_size=size, attributes=ATTRIBUTES)
        await undeclared(store.capabilities.attributes, lambda: store.create_multipart("key", attributed))
        tagged = MultipartOptions(part_size=size, tags=TAGS)
        declared = store.capabilities.tags and store.part_limits.tags
        await undeclared(declared, lambda: store.create_multipart("key", tagged))

    # Replacing and leaving out parts

    async def test_a_part_put_again_replaces_the_one_before(self, store: MultipartStore) -> None:
        ref = await begin(store)
        await store.put_part(ref, 1, self.part(store, "a"))
        again = await store.put_part(ref, 1, b"shorter")
        assert [part async for part in store.list_parts(ref)] == [again]
        await store.complete_multipart(ref, [again])
        assert await read(store, ref.key) == b"shorter"

    async def test_the_e_tag_of_a_replaced_part_is_refused_and_the_multipart_stays(self, store: MultipartStore) -> None:
        ref = await begin(store)
        stale = await store.put_part(ref, 1, self.part(store, "a"))
        part = await store.put_part(ref, 1, self.part(store, "b"))
        with pytest.raises(InvalidPartError):
            await store.complete_multipart(ref, [stale])
        assert not await exists(store, ref.key)
        await store.complete_multipart(ref, [part])
        assert await read(store, ref.key) == self.part(store, "b")

    async def test_an_absent_part_is_refused_and_the_multipart_stays(self, store: MultipartStore) -> None:
        ref = await begin(store)
        part = await store.put_part(ref, 1, self.part(store, "a"))
        absent = PartMeta(part_number=2, size=1, e_tag=part.e_tag)
        with pytest.raises(InvalidPartError):
            await store.complete_multipart(ref, [part, absent])
        assert not await exists(store, ref.key)
        await store.complete_multipart(ref, [part])
        assert await read(store, ref.key) == self.part(store, "a")

    async def test_parts_not_named_are_dropped_or_refused(self, store: MultipartStore) -> None:
        ref = await begin(store)
        bodies = [self.part(store, fill) for fill in "abc"]
        parts = [await store.put_part(ref, number, body) for number, body in enumerate(bodies, 1)]
        if store.part_limits.exhaustive:
            with pytest.raises(InvalidPartError):
                await store.complete_multipart(ref, parts[:2])
            assert not await exists(store, ref.key)
            await store.complete_multipart(ref, parts)
            assert await read(store, ref.key) == b"".join(bodies)
        else:
            await store.complete_multipart(ref, parts[:2])
            assert await read(store, ref.key) == bodies[0] + bodies[1]

    async def test_a_gap_in_the_numbers_is_closed_or_refused(self, store: MultipartStore) -> None:
        ref = await begin(store)
        first, third = self.part(store, "a"), self.part(store, "c")
        parts = [await store.put_part(ref, 1, first), await store.put_part(ref, 3, third)]
        if store.part_limits.consecutive:
            for gap in (parts, parts[1:]):
                with pytest.raises(InvalidPartError):
                    await store.complete_multipart(ref, gap)
            second = self.part(store, "b")
            await store.complete_multipart(ref, [parts[0], await store.put_part(ref, 2, second), parts[1]])
            assert await read(store, ref.key) == first + second + third
        else:
            await store.complete_multipart(ref, parts)
            assert await read(store, ref.key) == first + third

    async def test_parts_are_named_in_ascending_order_and_not_none(self, store: MultipartStore) -> None:
        ref = await begin(store)
        first = await store.put_part(ref, 1, self.part(store, "a"))
        second = await store.put_part(ref, 2, self.part(store, "b"))
        for named in ([], [second, first], [first, first, second]):
            with pytest.raises(InvalidPartError):
                await store.complete_multipart(ref, named)
        await store.complete_multipart(ref, [first, second])

    async def test_two_attempts_at_one_part_at_once_leave_the_bytes_of_one(self, store: MultipartStore) -> None:
        ref = await begin(store)
        bodies = [self.part(store, fill) for fill in "abcdef"]
        answers = await asyncio.gather(*(store.put_part(ref, 1, body) for body in bodies), return_exceptions=True)
        failures = [answer for answer in answers if isinstance(answer, BaseException)]
        assert all(isinstance(failure, TransientStoreError) for failure in failures)
        (part,) = [part async for part in store.list_parts(ref)]
        await store.complete_multipart(ref, [part])
        assert await read(store, ref.key) == bodies[answers.index(part)]

    # Limits

    async def test_part_numbers_outside_the_limits_are_refused(self, store: MultipartStore) -> None:
        ref = await begin(store)
        for number in (-1, 0, store.part_limits.max_count + 1):
            with pytest.raises(InvalidPartError):
                await store.put_part(ref, number, UntouchablePayload())
        await store.put_part(ref, store.part_limits.max_count, b"x")

    async def test_a_part_larger_than_any_is_refused(self, store: MultipartStore) -> None:
        ref = await begin(store)
        with pytest.raises(InvalidPartError):
            await store.put_part(ref, 1, MislabelledPayload(b"", size=store.part_limits.max_size + 1))
        for size in (0, store.part_limits.max_size + 1):
            with pytest.raises(InvalidPartError):
                await store.create_multipart("key", MultipartOptions(part_size=size))

    async def test_a_small_part_that_is_not_the_last_is_refused_and_the_multipart_stays(
        self, store: MultipartStore
    ) -> None:
        limits = store.part_limits
        if limits.min_size == 1 and not limits.uniform:
            return
        ref = await begin(store)
        small = await store.put_part(ref, 1, self.part(store, "a")[:-1])
        last = await store.put_part(ref, 2, b"x")
        with pytest.raises(InvalidPartError):
            await store.complete_multipart(ref, [small, last])
        assert not await exists(store, ref.key)
        whole = await store.put_part(ref, 1, self.part(store, "a"))
        await store.complete_multipart(ref, [whole, last])
        assert await read(store, ref.key) == self.part(store, "a") + b"x"

    async def test_parts_differ_in_size_or_are_refused(self, store: MultipartStore) -> None:
        uniform = store.part_limits.uniform
        bodies = [self.part(store, "a"), self.part(store, "b") * 2, b"c"]
        if uniform:
            with pytest.raises(UnsupportedOperationError):
                await store.create_multipart("key")
            ref = await begin(store)
            with pytest.raises(InvalidPartError):
                await store.put_part(ref, 1, bodies[1])
            return
        ref = await store.create_multipart("key")
        parts = [await store.put_part(ref, number, body) for number, body in enumerate(bodies, 1)]
        await store.complete_multipart(ref, parts)
        assert await read(store, ref.key) == b"".join(bodies)

    # Writes that fail

    async def test_a_part_with_other_bytes_than_its_digest_is_not_kept(self, store: MultipartStore) -> None:
        ref = await begin(store)
        with pytest.raises(IntegrityError):
            await store.put_part(ref, 1, BytesPayload(self.part(store, "a"), crc64nvme=1))
        assert [part async for part in store.list_parts(ref)] == []
        body = self.part(store, "a")
        part = await store.put_part(ref, 1, BytesPayload(body, crc64nvme=crc64nvme(body)))
        await store.complete_multipart(ref, [part])
        assert await read(store, ref.key) == body

    async def test_a_part_of_another_size_than_it_said_is_not_kept(self, store: MultipartStore) -> None:
        ref = await begin(store)
        second = await store.put_part(ref, 2, b"second")
        whole = part_size(store)
        for given, said in ((whole - 1, whole), (whole + 10, whole)):
            with pytest.raises(IntegrityError):
                await store.put_part(ref, 1, MislabelledPayload(b"x" * given, size=said))
        assert [part async for part in store.list_parts(ref)] == [second]
        first = await store.put_part(ref, 1, self.part(store, "a"))
        await store.complete_multipart(ref, [first, second])
        assert await read(store, ref.key) == self.part(store, "a") + b"second"

    async def test_an_attempt_that_fails_never_mixes_with_the_one_before(self, store: MultipartStore) -> None:
        ref = await begin(store)
        body = self.part(store, "a")
        before = await store.put_part(ref, 1, body)
        with pytest.raises(SourceFailedError):
            await store.put_part(ref, 1, FailingPayload(b"b" * (len(body) // 2), missing=1))
        kept = [part async for part in store.list_parts(ref)]
        assert kept in ([], [before])
        part = before if kept else await store.put_part(ref, 1, body)
        await store.complete_multipart(ref, [part])
        assert await read(store, ref.key) == body

    async def test_an_attempt_that_is_cancelled_never_mixes_with_the_one_before(self, store: MultipartStore) -> None:
        ref = await begin(store)
        body = self.part(store, "a")
        before = await store.put_part(ref, 1, body)
        payload = HeldPayload(b"b" * (len(body) // 2), b"c")
        async with cancelled_midway(payload, store.put_part(ref, 1, payload)):
            pass
        kept = [part async for part in store.list_parts(ref)]
        assert kept in ([], [before])
        part = before if kept else await store.put_part(ref, 1, body)
        await store.complete_multipart(ref, [part])
        assert await read(store, ref.key) == body

    # Completing

    async def test_a_completion_that_creates_leaves_what_is_there(self, store: MultipartStore) -> None:
        ref = await begin(store)
        first = await store.put_part(ref, 1, self.part(store, "a"))
        second = await store.put_part(ref, 2, b"more")
        create = store.capabilities.complete_create
        if await undeclared(create, lambda: store.complete_multipart(ref, [first], mode="create")):
            assert not await exists(store, ref.key)
            return
        await store.put(ref.key, b"old")
        refused = (AlreadyExistsError, InvalidPartError) if store.part_limits.exclusive else AlreadyExistsError
        with pytest.raises(refused):
            await store.complete_multipart(ref, [first, second], mode="create")
        assert await read(store, ref.key) == b"old"
        if not store.part_limits.exclusive:
            assert [part async for part in store.list_parts(ref)] == [first, second]
        await store.delete(ref.key)
        if await self.completes(store, ref, [first, second], mode="create"):
            assert await read(store, ref.key) == self.part(store, "a") + b"more"

    async def test_of_many_who_complete_to_create_one_wins(self, store: MultipartStore) -> None:
        if not store.capabilities.complete_create:
            return
        refs = [await begin(store) for _ in range(8)]
        parts = [await store.put_part(ref, 1, f"writer {number}".encode()) for number, ref in enumerate(refs)]
        attempts = (
            outcome(store.complete_multipart(ref, [part], mode="create")) for ref, part in zip(refs, parts, strict=True)
        )
        kinds = await asyncio.gather(*attempts)
        assert kinds.count(None) == 1
        assert set(kinds) <= {None, AlreadyExistsError, *([InvalidPartError] if store.part_limits.exclusive else [])}
        assert await read(store, "key") == f"writer {kinds.index(None)}".encode()

    async def test_completing_again_does_not_touch_the_object(self, store: MultipartStore) -> None:
        ref = await begin(store)
        part = await store.put_part(ref, 1, b"part")
        done = await store.complete_multipart(ref, [part])
        assert await outcome(store.complete_multipart(ref, [part])) in (None, MultipartNotFoundError)
        assert await read(store, ref.key, GetOptions(if_match=done.e_tag)) == b"part"
        await store.abort_multipart(ref)
        assert await read(store, ref.key, GetOptions(if_match=done.e_tag)) == b"part"

    async def test_a_completed_multipart_takes_no_more_parts(self, store: MultipartStore) -> None:
        ref = await begin(store)
        await store.complete_multipart(ref, [await store.put_part(ref, 1, b"part")])
        with pytest.raises(MultipartNotFoundError):
            await store.put_part(ref, 2, b"more")
        assert await read(store, ref.key) == b"part"

    async def test_two_multiparts_of_one_key_do_not_meet(self, store: MultipartStore) -> None:
        one, other = await begin(store), await begin(store)
        parts = [await store.put_part(one, 1, b"one"), await store.put_part(other, 1, b"other")]
        await store.complete_multipart(one, parts[:1])
        assert await read(store, "key") == b"one"
        if not await self.completes(store, other, parts[1:]):
            assert await read(store, "key") == b"one"
            await store.complete_multipart(other, [await store.put_part(other, 1, b"other")])
        assert await read(store, "key") == b"other"

    @staticmethod
    async def completes(
        store: MultipartStore, ref: MultipartRef, parts: Sequence[PartMeta], *, mode: CopyMode = "overwrite"
    ) -> bool:
        """Complete a multipart; False where it did not have its key for itself, wants that, and says what it lost."""
        try:
            await store.complete_multipart(ref, parts, mode=mode)
        except InvalidPartError:
            assert store.part_limits.exclusive
            return False
        return True

    # Aborting

    async def test_an_aborted_multipart_is_gone(self, store: MultipartStore) -> None:
        ref = await begin(store)
        part = await store.put_part(ref, 1, b"part")
        await store.abort_multipart(ref)
        await store.abort_multipart(ref)
        with pytest.raises(MultipartNotFoundError):
            await store.put_part(ref, 1, b"part")
        with pytest.raises(MultipartNotFoundError):
            await store.complete_multipart(ref, [part])
        with pytest.raises(MultipartNotFoundError):
            _ = [part async for part in store.list_parts(ref)]
        assert not await exists(store, ref.key)

    async def test_a_multipart_that_never_was_is_gone_too(self, store: MultipartStore) -> None:
        ref = await begin(store)
        part = await store.put_part(ref, 1, b"part")
        for stranger in (MultipartRef("key", "0" * 32), MultipartRef("key", "../../x"), MultipartRef("key", "é/\n")):
            await store.abort_multipart(stranger)
            with pytest.raises(MultipartNotFoundError):
                await store.put_part(stranger, 1, b"part")
            with pytest.raises(MultipartNotFoundError):
                await store.complete_multipart(stranger, [part])
        await store.complete_multipart(ref, [part])

    async def test_a_multipart_belongs_to_its_key(self, store: MultipartStore) -> None:
        ref = await begin(store)
        part = await store.put_part(ref, 1, b"part")
        stranger = MultipartRef("other", ref.multipart_id)
        await store.abort_multipart(stranger)
        with pytest.raises(MultipartNotFoundError):
            await store.complete_multipart(stranger, [part])
        await store.complete_multipart(ref, [part])
        assert await list_keys(store) == ["key"]

    # Handles and listings

    async def test_a_handle_outlives_the_instance_that_made_it(self, store: MultipartStore) -> None:
        ref = await begin(store, "é/key")
        first = await store.put_part(ref, 1, self.part(store, "a"))
        other = self.reopen(store)
        try:
            handle = MultipartRef.from_json(ref.to_json())
            second = await other.put_part(handle, 2, b"more")
            assert [part async for part in other.list_parts(handle)] == [first, second]
            await other.complete_multipart(handle, [first, second])
        finally:
            if other is not store:
                await other.aclose()
        assert await read(store, "é/key") == self.part(store, "a") + b"more"

    async def test_parts_are_listed_by_number(self, store: MultipartStore) -> None:
        ref = await begin(store)
        assert [part async for part in store.list_parts(ref)] == []
        put = {number: await store.put_part(ref, number, b"x" * number) for number in (7, 1, 3)}
        assert [part async for part in store.list_parts(ref)] == [put[1], put[3], put[7]]
        assert [part.size for part in (put[1], put[3], put[7])] == [1, 3, 7]

    async def test_unfinished_multiparts_are_listed_by_prefix(self, store: MultipartStore) -> None:
        if not store.capabilities.list_multiparts:
            with pytest.raises(UnsupportedOperationError):
                store.list_multiparts()
            return
        refs = [await begin(store, key) for key in ("a/1", "a/2", "ab", "a/1")]
        found = [multipart async for multipart in store.list_multiparts("a/")]
        assert {multipart.ref for multipart in found} == {refs[0], refs[1], refs[3]}
        assert all(multipart.initiated_at.utcoffset() == timedelta(0) for multipart in found)
        await store.complete_multipart(refs[0], [await store.put_part(refs[0], 1, b"x")])
        await store.abort_multipart(refs[2])
        assert {multipart.ref async for multipart in store.list_multiparts()} == {refs[1], refs[3]}

    # Copying into parts

    async def test_a_part_may_be_a_copy_of_an_object_or_a_range_of_it(self, store: MultipartStore) -> None:
        size = part_size(store)
        data = bytes(number % 251 for number in range(size * 2))
        await store.put("source", data)
        ref = await begin(store)
        first = ByteRange(size // 2, size // 2 + size)
        if await undeclared(store.capabilities.copy_part, lambda: store.copy_part(ref, 1, "source", first)):
            return
        parts = [await store.copy_part(ref, 1, "source", first)]
        await store.put("small", b"small")
        parts.append(await store.copy_part(ref, 2, "small"))
        assert [part.size for part in parts] == [size, 5]
        await store.complete_multipart(ref, parts)
        assert await read(store, ref.key) == data[first.start : first.end] + b"small"
        assert await read(store, "source") == data

    async def test_a_copy_of_what_is_not_there_is_refused(self, store: MultipartStore) -> None:
        if not store.capabilities.copy_part:
            return
        ref = await begin(store)
        with pytest.raises(NotFoundError):
            await store.copy_part(ref, 1, "source")
        await store.put("source", b"source")
        with pytest.raises(InvalidRangeError):
            await store.copy_part(ref, 1, "source", ByteRange(6))
        assert [part async for part in store.list_parts(ref)] == []
        await store.abort_multipart(ref)
        with pytest.raises(MultipartNotFoundError):
            await store.copy_part(ref, 1, "source")
