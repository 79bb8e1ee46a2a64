"""What every upload repository must do: subclass :class:`UploadRepositoryContract` and give it the three fixtures.

::

    class TestMyRepository(UploadRepositoryContract):
        @pytest.fixture
        def repository(self): ...  # made with LEASE_TTL and EXPIRES_IN

        @pytest.fixture
        def rival(self): ...  # the same rows, seen by another process

        @pytest.fixture
        def admin(self): ...  # a RepositoryAdmin

Where processes signal each other, subclass :class:`SignallingRepositoryContract`. The tests are coroutines: run them
with pytest-asyncio in its auto mode.
"""

# ruff: noqa: ANN401, S106 - fields of any kind are changed; the tokens of leases are no passwords

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, timedelta
from functools import partial
from typing import Any, Protocol

import pytest
from typing_extensions import override

from rindle.objectstore.types import MultipartRef
from rindle.uploads.errors import DuplicateUploadError, StaleUploadError
from rindle.uploads.ids import new_token, new_upload_id
from rindle.uploads.model import IN_STORE, EventType, Lease, Part, Tail, Upload, UploadState
from rindle.uploads.ports import Claim, Due, LeaseSignal, NewUpload, SignalReceiver, UploadRepository

LEASE_TTL = timedelta(minutes=5)
EXPIRES_IN = timedelta(days=7)
"""Long enough that nothing runs out by itself while a test runs."""

_HOUR = timedelta(hours=1)
_NONE = timedelta(0)
_HUGE = 2**63 - 1
_TAIL = Tail(name="a.tail", node="node-1", length=3, crc64nvme=2**64 - 1)
_MULTIPART = MultipartRef("uploads/key", "multipart-1")


class RepositoryAdmin(Protocol):
    """What a test needs besides the repository: to move time, which is the database's, and to look at the outbox."""

    async def set_time_left(self, upload_id: str, left: timedelta) -> None:
        """Let the upload expire so long from now; negative: it has."""
        ...

    async def end_lease(self, upload_id: str) -> None:
        """Let the upload's lease have run out."""
        ...

    async def set_state_age(self, upload_id: str, age: timedelta) -> None:
        """Let the upload be in its state for so long already."""
        ...

    async def end_wait(self, upload_id: str) -> None:
        """Let it be time for what was taken or put off."""
        ...

    async def age(self, upload_id: str, by: timedelta) -> None:
        """Let everything about an upload have happened so much earlier, its events included."""
        ...

    async def retire_node(self, node: str) -> None:
        """Declare the tails of a node gone, as an operator does."""
        ...

    async def find_events(self, upload_id: str) -> Sequence[Mapping[str, Any]]:
        """The payloads of the events of an upload, in the order of their recording."""
        ...


def new_upload(**changes: Any) -> NewUpload:
    """A plain upload of ten bytes by alice."""
    plain = NewUpload(id=new_upload_id(), owner="alice", state=UploadState.ACTIVE, length=10, part_size=5)
    return replace(plain, **changes)


def claim_of(upload: Upload, **changes: Any) -> Claim:
    """A claim of which every condition holds for a fresh upload."""
    plain = Claim(
        upload_id=upload.id,
        owner=upload.owner,
        offset=upload.offset,
        body_length=None,
        length=None,
        token=new_token(),
        holder="node-1/process-1",
        node="node-1",
    )
    return replace(plain, **changes)


def part(number: int, *, size: int = 5) -> Part:
    """A part like any other."""
    return Part(part_number=number, size=size, e_tag=f"e-tag-{number}", crc64nvme=number)


async def claimed(repository: UploadRepository, upload: Upload, **changes: Any) -> Upload:
    """The upload, with a lease that is its own."""
    found = await repository.claim(claim_of(upload, **changes))
    assert found is not None
    return found


async def completed_partial(repository: UploadRepository, **changes: Any) -> Upload:
    """A complete partial upload."""
    upload = await repository.add(new_upload(partial=True, concat="partial", **changes))
    return await repository.commit(upload, replace(upload, state=UploadState.COMPLETE, offset=10, key="k", e_tag="e"))


def concatenation_of(*sources: Upload, **changes: Any) -> NewUpload:
    """The concatenation of these partial uploads."""
    ids = [source.id for source in sources]
    fields = {"state": UploadState.CONCATENATING, "concat": "final;a b", "length": 10 * len(ids), "sources": ids}
    return new_upload(**fields | changes)


async def in_state(repository: UploadRepository, state: UploadState, **changes: Any) -> Upload:
    """An upload in this state, without a lease."""
    upload = await repository.add(new_upload(**changes))
    return upload if state is UploadState.ACTIVE else await repository.commit(upload, replace(upload, state=state))


async def due(repository: UploadRepository, kind: Due, *, limit: int = 10, hold: timedelta = _NONE) -> set[str]:
    """The ids of the uploads that are given out."""
    return {one.upload.id for one in await repository.take_due(kind, limit=limit, hold=hold)}


async def get(repository: UploadRepository, upload: Upload) -> Upload:
    """The upload as it is now."""
    found = await repository.find(upload.id)
    assert found is not None
    return found


async def outcomes(*coroutines: Any) -> list[Any]:
    """What each of these, run side by side, returned or raised."""
    return await asyncio.gather(*coroutines, return_exceptions=True)


class Heard(SignalReceiver):
    """Keeps the signals that it gets. ``live``: whether they come."""

    def __init__(self) -> None:
        self.live = False
        self._begun: asyncio.Queue[None] = asyncio.Queue()
        self._signals: asyncio.Queue[tuple[LeaseSignal, str]] = asyncio.Queue()

    @override
    def receive(self, signal: LeaseSignal, upload_id: str) -> None:
        self._signals.put_nowait((signal, upload_id))

    @override
    def set_live(self, *, live: bool) -> None:
        self.live = live
        if live:
            self._begun.put_nowait(None)

    async def next(self) -> tuple[LeaseSignal, str]:
        """The oldest signal that was not asked for yet; waits for it."""
        return await self._signals.get()

    async def next_live(self) -> None:
        """Wait until signals begin to come once more than this was waited for."""
        await self._begun.get()


@asynccontextmanager
async def listening(repository: UploadRepository) -> AsyncIterator[Heard]:
    """What is signalled while the block runs."""
    heard = Heard()
    task = asyncio.create_task(repository.listen(heard))
    try:
        await heard.next_live()
        yield heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class UploadRepositoryContract:
    """The suite."""

    @pytest.fixture
    def repository(self) -> UploadRepository:
        """The repository under test, made with LEASE_TTL and EXPIRES_IN."""
        raise NotImplementedError

    @pytest.fixture
    def rival(self) -> UploadRepository:
        """The same rows as another process sees them."""
        raise NotImplementedError

    @pytest.fixture
    def admin(self) -> RepositoryAdmin:
        """The hands of the test."""
        raise NotImplementedError

    # add, find

    async def test_a_new_upload_begins_at_zero_with_nothing_stored(self, repository: UploadRepository) -> None:
        new = new_upload(metadata="filename ZmlsZQ==", partial=True, concat="partial")

        upload = await repository.add(new)

        assert upload == Upload(
            id=new.id,
            owner="alice",
            state=UploadState.ACTIVE,
            length=10,
            part_size=5,
            metadata="filename ZmlsZQ==",
            partial=True,
            concat="partial",
            created_at=upload.created_at,
            expires_at=upload.expires_at,
        )

    async def test_what_is_said_of_a_new_upload_is_kept(self, repository: UploadRepository) -> None:
        said = {"metadata": "m", "usecase": "films", "content_type": "video/webm", "target": "films/a.webm"}

        upload = await repository.add(new_upload(**said))

        assert {name: getattr(upload, name) for name in said} == said
        assert await repository.find(upload.id) == upload

    async def test_what_add_returns_is_what_find_finds(
        self, repository: UploadRepository, rival: UploadRepository
    ) -> None:
        upload = await repository.add(new_upload())

        assert await repository.find(upload.id) == upload
        assert await rival.find(upload.id) == upload

    async def test_instants_are_aware_and_in_utc(self, repository: UploadRepository) -> None:
        upload = await repository.add(new_upload())

        assert upload.created_at.tzinfo is UTC
        assert upload.expires_at is not None
        assert upload.expires_at.tzinfo is UTC
        assert abs(upload.expires_at - upload.created_at - EXPIRES_IN) < timedelta(minutes=1)

    async def test_an_unknown_upload_is_not_found(self, repository: UploadRepository) -> None:
        unknown = new_upload_id()

        assert await repository.find(unknown) is None
        assert list(await repository.find_parts(unknown)) == []
        assert list(await repository.find_sources(unknown)) == []

    async def test_the_length_may_be_deferred(self, repository: UploadRepository) -> None:
        upload = await repository.add(new_upload(length=None))

        assert (await get(repository, upload)).length is None

    async def test_text_comes_back_as_it_went(self, repository: UploadRepository) -> None:
        text = "naïve 日本語 🦭 'quoted' \"twice\" %s :id $1 ? \\ \t\n"

        upload = await repository.add(new_upload(owner=text, metadata=text, concat=text))

        found = await get(repository, upload)
        assert (found.owner, found.metadata, found.concat) == (text, text, text)

    async def test_sizes_up_to_63_bits_come_back_as_they_went(self, repository: UploadRepository) -> None:
        upload = await repository.add(new_upload(length=_HUGE, part_size=_HUGE))
        tail = replace(_TAIL, length=_HUGE)
        after = await repository.commit(upload, replace(upload, offset=_HUGE, tail=tail))

        assert after.length == after.part_size == after.offset == _HUGE
        assert await repository.find(upload.id) == after

    async def test_a_taken_id_is_refused_and_the_first_upload_stays(
        self, repository: UploadRepository, admin: RepositoryAdmin
    ) -> None:
        first = await repository.add(new_upload())

        with pytest.raises(DuplicateUploadError):
            await repository.add(new_upload(id=first.id, owner="bob"), events=[EventType.CREATED])

        assert await repository.find(first.id) == first
        assert await admin.find_events(first.id) == []

    async def test_of_many_that_add_one_id_one_succeeds(
        self, repository: UploadRepository, rival: UploadRepository, admin: RepositoryAdmin
    ) -> None:
        upload_id = new_upload_id()

        results = await outcomes(
            *(which.add(new_upload(id=upload_id), events=[EventType.CREATED]) for which in [repository, rival] * 10)
        )

        assert sum(isinstance(result, Upload) for result in results) == 1
        assert sum(isinstance(result, DuplicateUploadError) for result in results) == 19
        assert len(await admin.find_events(upload_id)) == 1

    async def test_the_events_of_a_new_upload_are_recorded_once(
        self, repository: UploadRepository, admin: RepositoryAdmin
    ) -> None:
        upload = await repository.add(new_upload(), events=[EventType.CREATED, EventType.FINISHED])

        events = await admin.find_events(upload.id)
        assert [event["type"] for event in events] == ["created", "finished"]
        assert events[0] == {
            "upload_id": upload.id,
            "owner": "alice",
            "type": "created",
            "offset": 0,
            "length": 10,
            "key": None,
            "reason": None,
        }

    # Concatenation

    async def test_sources_are_found_in_order_with_repeats(self, repository: UploadRepository) -> None:
        first, second = await completed_partial(repository), await completed_partial(repository)

        final = await repository.add(concatenation_of(second, first, second), events=[EventType.CREATED])

        found = await repository.find_sources(final.id)
        assert [source.id for source in found] == [second.id, first.id, second.id]
        assert list(await repository.find_sources(first.id)) == []

    async def test_each_source_is_pinned_once_by_each_concatenation(self, repository: UploadRepository) -> None:
        first, second = await completed_partial(repository), await completed_partial(repository)

        await repository.add(concatenation_of(first, second, first))
        await repository.add(concatenation_of(first))

        assert (await get(repository, first)).pins == 2
        assert (await get(repository, second)).pins == 1

    async def test_a_concatenation_of_an_unfit_source_changes_nothing(
        self, repository: UploadRepository, admin: RepositoryAdmin
    ) -> None:
        fit = await completed_partial(repository)
        whole = await in_state(repository, UploadState.COMPLETE)
        unfinished = await repository.add(new_upload(partial=True))
        foreign = await completed_partial(repository, owner="bob")
        terminated = await completed_partial(repository)
        terminated = await repository.commit(terminated, replace(terminated, state=UploadState.ABORTING))
        unknown = replace(fit, id=new_upload_id())

        for unfit in (whole, unfinished, foreign, terminated, unknown):
            new = concatenation_of(fit, unfit)
            with pytest.raises(StaleUploadError):
                await repository.add(new, events=[EventType.CREATED])

            assert await repository.find(new.id) is None
            assert list(await repository.find_sources(new.id)) == []
            assert await admin.find_events(new.id) == []
            assert await repository.find(fit.id) == fit

    async def test_a_concatenation_with_a_taken_id_pins_nothing(self, repository: UploadRepository) -> None:
        source = await completed_partial(repository)

        with pytest.raises(DuplicateUploadError):
            await repository.add(concatenation_of(source, id=source.id))

        assert await repository.find(source.id) == source

    @pytest.mark.parametrize("state", [UploadState.COMPLETE, UploadState.FAILED, UploadState.ABORTING])
    @pytest.mark.parametrize("before", [UploadState.CONCATENATING, UploadState.FINALIZING])
    async def test_a_concatenation_that_ends_unpins_its_sources(
        self, repository: UploadRepository, state: UploadState, before: UploadState
    ) -> None:
        first, second = await completed_partial(repository), await completed_partial(repository)
        other = await repository.add(concatenation_of(first))
        final = await repository.add(concatenation_of(first, second, first))
        final = await repository.commit(final, replace(final, state=before))
        assert (await get(repository, first)).pins == 2

        final = await repository.commit(final, replace(final, state=state), events=[EventType.FINISHED])

        assert (await get(repository, first)).pins == 1
        assert (await get(repository, second)).pins == 0
        assert (await get(repository, other)).state is UploadState.CONCATENATING
        await repository.commit(final, replace(final, reason="once is enough"))
        assert (await get(repository, first)).pins == 1

    async def test_a_stale_commit_unpins_nothing(self, repository: UploadRepository) -> None:
        source = await completed_partial(repository)
        final = await repository.add(concatenation_of(source))
        await repository.commit(final, replace(final, reason="another writer"))

        with pytest.raises(StaleUploadError):
            await repository.commit(final, replace(final, state=UploadState.COMPLETE))

        assert (await get(repository, source)).pins == 1

    async def test_concatenations_of_the_same_sources_do_not_lock_each_other_out(
        self, repository: UploadRepository, rival: UploadRepository
    ) -> None:
        sources = [await completed_partial(repository) for _ in range(4)]

        finals = await asyncio.gather(
            *(repository.add(concatenation_of(*sources)) for _ in range(6)),
            *(rival.add(concatenation_of(*reversed(sources))) for _ in range(6)),
        )
        assert {(await get(repository, source)).pins for source in sources} == {12}

        await asyncio.gather(
            *(
                which.commit(final, replace(final, state=UploadState.FAILED))
                for which, final in zip([repository, rival] * 6, finals, strict=True)
            )
        )
        assert {(await get(repository, source)).pins for source in sources} == {0}

    async def test_of_pinning_and_terminating_a_partial_upload_one_succeeds(
        self, repository: UploadRepository, rival: UploadRepository
    ) -> None:
        for _ in range(10):
            source = await completed_partial(repository)
            new = concatenation_of(source)
            aborting = replace(source, state=UploadState.ABORTING)

            added, terminated = await outcomes(repository.add(new), rival.commit(source, aborting))

            now = await get(repository, source)
            if isinstance(added, Upload):
                assert isinstance(terminated, StaleUploadError)
                assert (now.state, now.pins) == (UploadState.COMPLETE, 1)
            else:
                assert isinstance(added, StaleUploadError)
                assert isinstance(terminated, Upload)
                assert (now.state, now.pins) == (UploadState.ABORTING, 0)
                assert await repository.find(new.id) is None

    # claim

    async def test_a_claim_takes_the_lease(self, repository: UploadRepository, rival: UploadRepository) -> None:
        upload = await repository.add(new_upload())

        taken = await repository.claim(claim_of(upload, token="mine", holder="node-1/me"))

        assert taken == replace(upload, lease=Lease(token="mine", holder="node-1/me"))
        assert await rival.find(upload.id) == taken

    @pytest.mark.parametrize(
        "changes",
        [
            pytest.param({"upload_id": new_upload_id()}, id="upload_id"),
            pytest.param({"owner": "bob"}, id="owner"),
            pytest.param({"offset": 3}, id="offset-behind"),
            pytest.param({"offset": 5}, id="offset-ahead"),
            pytest.param({"body_length": 7}, id="body-too-long"),
            pytest.param({"body_length": _HUGE}, id="body-far-too-long"),
            pytest.param({"length": 11}, id="another-length"),
            pytest.param({"node": "node-2"}, id="tail-elsewhere"),
        ],
    )
    async def test_a_claim_of_which_one_condition_fails_changes_nothing(
        self, repository: UploadRepository, changes: dict[str, Any]
    ) -> None:
        upload = await repository.add(new_upload())
        upload = await repository.commit(upload, replace(upload, offset=4, tail=_TAIL))

        assert await repository.claim(claim_of(upload, **changes)) is None
        assert await repository.find(upload.id) == upload
        assert await repository.claim(claim_of(upload)) is not None

    @pytest.mark.parametrize("state", [state for state in UploadState if state is not UploadState.ACTIVE])
    async def test_only_an_active_upload_can_be_claimed(self, repository: UploadRepository, state: UploadState) -> None:
        upload = await in_state(repository, state)

        assert await repository.claim(claim_of(upload)) is None
        assert await repository.find(upload.id) == upload

    async def test_an_expired_upload_cannot_be_claimed(
        self, repository: UploadRepository, admin: RepositoryAdmin
    ) -> None:
        upload = await repository.add(new_upload())
        await admin.set_time_left(upload.id, -_HOUR)

        assert await repository.claim(claim_of(upload)) is None
        found = await get(repository, upload)
        assert found.expired
        assert found.lease is None

    async def test_a_body_that_just_fits_can_be_claimed_for(self, repository: UploadRepository) -> None:
        upload = await repository.add(new_upload(length=_HUGE))
        upload = await repository.commit(upload, replace(upload, offset=_HUGE - 6))

        assert await repository.claim(claim_of(upload, body_length=7)) is None
        assert await repository.claim(claim_of(upload, body_length=6)) is not None

    async def test_without_a_tail_any_node_can_claim(self, repository: UploadRepository) -> None:
        upload = await repository.add(new_upload())

        assert await repository.claim(claim_of(upload, node="node-2")) is not None

    async def test_with_its_tail_in_the_store_any_node_can_claim(self, repository: UploadRepository) -> None:
        upload = await repository.add(new_upload())
        upload = await repository.commit(upload, replace(upload, offset=4, tail=replace(_TAIL, node=IN_STORE)))

        taken = await claimed(repository, upload, node="node-2")
        assert taken.tail is not None
        assert taken.tail.in_store

    async def test_a_claim_can_declare_the_length_and_a_commit_fixes_it(self, repository: UploadRepository) -> None:
        upload = await repository.add(new_upload(length=None))
        taken = await claimed(repository, upload, length=20, body_length=20)
        assert taken.length is None
        released = await repository.commit(taken, replace(taken, length=20, lease=None))

        assert await repository.claim(claim_of(released, length=21)) is None
        assert (await claimed(repository, released, length=20)).length == 20

    async def test_a_declared_length_is_one_that_offset_and_body_fit_into(self, repository: UploadRepository) -> None:
        upload = await repository.add(new_upload(length=None))
        upload = await repository.commit(upload, replace(upload, offset=8))

        assert await repository.claim(claim_of(upload, length=7)) is None
        assert await repository.claim(claim_of(upload, length=9, body_length=2)) is None
        assert (await get(repository, upload)).length is None
        assert (await claimed(repository, upload, length=10, body_length=2)).lease is not None

    async def test_a_deferred_length_binds_no_body(self, repository: UploadRepository) -> None:
        upload = await repository.add(new_upload(length=None))

        assert (await claimed(repository, upload, body_length=_HUGE)).length is None

    async def test_a_held_lease_cannot_be_claimed_even_when_it_has_run_out(
        self, repository: UploadRepository, admin: RepositoryAdmin
    ) -> None:
        held = await claimed(repository, await repository.add(new_upload()))
        assert await repository.claim(claim_of(held)) is None

        await admin.end_lease(held.id)

        assert await repository.claim(claim_of(held)) is None
        assert (await get(repository, held)).lease == replace(held.lease, live=False)  # type: ignore[type-var]

    async def test_a_lease_can_be_taken_over_by_its_token_alone(self, repository: UploadRepository) -> None:
        held = await claimed(repository, await repository.add(new_upload()), token="old")

        assert await repository.claim(claim_of(held, take_over="other")) is None
        taken = await claimed(repository, held, take_over="old", token="new", holder="node-1/process-2")

        assert taken.lease == Lease(token="new", holder="node-1/process-2")
        with pytest.raises(StaleUploadError):
            await repository.commit(held, replace(held, offset=5))

    async def test_a_lease_that_was_given_back_meanwhile_can_be_taken(self, repository: UploadRepository) -> None:
        held = await claimed(repository, await repository.add(new_upload()), token="old")
        await repository.commit(held, replace(held, lease=None))

        taken = await claimed(repository, held, take_over="old", token="new")
        assert taken.lease is not None
        assert not taken.untidy

    async def test_taking_over_a_lease_that_was_not_given_back_makes_the_upload_untidy_until_a_commit_tidies_it(
        self, repository: UploadRepository
    ) -> None:
        held = await claimed(repository, await repository.add(new_upload()), token="old")
        assert not held.untidy

        taken = await claimed(repository, held, take_over="old", token="new")
        assert taken.untidy
        released = await repository.commit(taken, replace(taken, lease=None))
        again = await claimed(repository, released)
        assert again.untidy

        assert not (await repository.commit(again, replace(again, untidy=False))).untidy
        found = await repository.find(held.id)
        assert found is not None
        assert not found.untidy

    async def test_a_new_lease_has_no_release_requested(self, repository: UploadRepository) -> None:
        held = await claimed(repository, await repository.add(new_upload()), token="old")
        await repository.request_release(held.id, "old")

        taken = await claimed(repository, held, take_over="old")

        assert taken.lease is not None
        assert not taken.lease.release_requested

    async def test_of_many_claims_one_succeeds(self, repository: UploadRepository, rival: UploadRepository) -> None:
        upload = await repository.add(new_upload())

        results = await asyncio.gather(*(which.claim(claim_of(upload)) for which in [repository, rival] * 10))

        winners = [result for result in results if result is not None]
        assert len(winners) == 1
        assert await repository.find(upload.id) == winners[0]

    async def test_of_many_that_take_over_one_lease_one_succeeds(
        self, repository: UploadRepository, rival: UploadRepository
    ) -> None:
        held = await claimed(repository, await repository.add(new_upload()), token="old")

        results = await asyncio.gather(
            *(which.claim(claim_of(held, take_over="old")) for which in [repository, rival] * 10)
        )

        assert sum(result is not None for result in results) == 1

    async def test_a_claim_moves_an_expiry_that_has_less_than_half_its_time_left(
        self, repository: UploadRepository, admin: RepositoryAdmin
    ) -> None:
        upload = await repository.add(new_upload())
        await admin.set_time_left(upload.id, EXPIRES_IN / 2 - _HOUR)
        before = await get(repository, upload)

        taken = await claimed(repository, upload)

        _assert_moved(before, taken)
        assert await repository.find(upload.id) == taken

    async def test_a_claim_leaves_an_expiry_that_has_more_than_half_its_time_left(
        self, repository: UploadRepository, admin: RepositoryAdmin
    ) -> None:
        upload = await repository.add(new_upload())
        await admin.set_time_left(upload.id, EXPIRES_IN / 2 + _HOUR)
        before = await get(repository, upload)

        taken = await claimed(repository, upload)

        assert taken.expires_at == before.expires_at

    # claim_work

    @pytest.mark.parametrize("state", [UploadState.FINALIZING, UploadState.CONCATENATING, UploadState.ABORTING])
    async def test_work_on_an_upload_is_claimed_with_its_lease(
        self, repository: UploadRepository, state: UploadState
    ) -> None:
        upload = await in_state(repository, state)

        taken = await repository.claim_work(upload.id, state, token="mine", holder="node-1/me")

        assert taken == replace(upload, lease=Lease(token="mine", holder="node-1/me"))
        assert await repository.find(upload.id) == taken

    async def test_work_that_is_no_more_cannot_be_claimed(self, repository: UploadRepository) -> None:
        upload = await in_state(repository, UploadState.FINALIZING)
        done = await repository.commit(upload, replace(upload, state=UploadState.COMPLETE))

        assert await repository.claim_work(upload.id, UploadState.FINALIZING, token="t", holder="h") is None
        assert await repository.claim_work(new_upload_id(), UploadState.FINALIZING, token="t", holder="h") is None
        assert await repository.find(upload.id) == done

    async def test_work_that_is_held_is_taken_over_by_its_token_alone(self, repository: UploadRepository) -> None:
        upload = await in_state(repository, UploadState.ABORTING)
        claim_work = partial(repository.claim_work, upload.id, UploadState.ABORTING, holder="h")
        held = await claim_work(token="old")
        assert held is not None

        assert await claim_work(token="new") is None
        assert await claim_work(token="new", take_over="other") is None
        assert await repository.find(upload.id) == held
        taken = await claim_work(token="new", take_over="old")
        assert taken is not None
        assert taken.untidy

    async def test_of_many_that_claim_work_one_succeeds(
        self, repository: UploadRepository, rival: UploadRepository
    ) -> None:
        upload = await in_state(repository, UploadState.FINALIZING)

        results = await asyncio.gather(
            *(
                which.claim_work(upload.id, UploadState.FINALIZING, token=new_token(), holder="h")
                for which in [repository, rival] * 10
            )
        )

        assert sum(result is not None for result in results) == 1

    # commit

    async def test_a_commit_makes_the_row_what_it_says(
        self, repository: UploadRepository, rival: UploadRepository
    ) -> None:
        held = await claimed(repository, await repository.add(new_upload(length=None)))
        after = replace(
            held,
            state=UploadState.FAILED,
            offset=8,
            length=9,
            part_size=6,
            part_count=1,
            multipart=_MULTIPART,
            key=_MULTIPART.key,
            e_tag="whole",
            tail=_TAIL,
            untidy=True,
            reason="why",
        )

        committed = await repository.commit(held, after, parts=[part(1)])

        assert committed == replace(after, generation=1)
        assert await rival.find(held.id) == committed

    async def test_a_commit_can_take_back_what_an_earlier_one_said(self, repository: UploadRepository) -> None:
        upload = await repository.add(new_upload())
        first = await repository.commit(
            upload, replace(upload, offset=3, tail=_TAIL, multipart=_MULTIPART, key=_MULTIPART.key, e_tag="e")
        )

        second = await repository.commit(
            first, replace(first, offset=0, tail=None, multipart=None, key=None, e_tag=None)
        )

        assert second == replace(upload, generation=2)
        assert await repository.find(upload.id) == second

    async def test_a_commit_that_changes_nothing_still_counts(self, repository: UploadRepository) -> None:
        upload = await repository.add(new_upload())

        committed = await repository.commit(upload, upload)

        assert committed == replace(upload, generation=1)
        with pytest.raises(StaleUploadError):
            await repository.commit(upload, upload)

    async def test_a_commit_chain_goes_on_from_what_each_returned(self, repository: UploadRepository) -> None:
        row = await claimed(repository, await repository.add(new_upload(length=None)))

        for number in range(1, 6):
            row = await repository.commit(
                row, replace(row, offset=row.offset + 5, part_count=number), parts=[part(number)]
            )

        assert (row.offset, row.part_count, row.generation) == (25, 5, 5)
        assert await repository.find(row.id) == row
        assert list(await repository.find_parts(row.id)) == [part(number) for number in range(1, 6)]

    async def test_parts_are_found_by_number_as_they_were_committed(self, repository: UploadRepository) -> None:
        upload = await repository.add(new_upload())
        parts = [
            Part(part_number=11, size=1, e_tag='"quoted"', crc64nvme=2**64 - 1),
            Part(part_number=2, size=_HUGE, e_tag="z", crc64nvme=0),
            Part(part_number=10_000, size=1, e_tag=""),
        ]

        await repository.commit(upload, replace(upload, part_count=3), parts=parts)

        assert list(await repository.find_parts(upload.id)) == [parts[1], parts[0], parts[2]]

    async def test_a_part_number_that_is_committed_already_is_stale_and_nothing_changes(
        self, repository: UploadRepository, admin: RepositoryAdmin
    ) -> None:
        upload = await repository.add(new_upload())
        row = await repository.commit(upload, replace(upload, part_count=1, offset=5), parts=[part(1)])

        with pytest.raises(StaleUploadError):
            await repository.commit(
                row,
                replace(row, part_count=3, offset=10),
                parts=[part(2), replace(part(1), e_tag="again")],
                events=[EventType.FINISHED],
            )

        assert await repository.find(row.id) == row
        assert list(await repository.find_parts(row.id)) == [part(1)]
        assert await admin.find_events(row.id) == []

    @pytest.mark.parametrize(
        "differ",
        [
            pytest.param(lambda row: replace(row, state=UploadState.FINALIZING), id="state"),
            pytest.param(lambda row: replace(row, lease=replace(row.lease, token="other")), id="token"),
            pytest.param(lambda row: replace(row, lease=None), id="no-token"),
            pytest.param(lambda row: replace(row, offset=row.offset + 1), id="offset"),
            pytest.param(lambda row: replace(row, part_count=row.part_count + 1), id="part_count"),
            pytest.param(lambda row: replace(row, generation=row.generation + 1), id="generation"),
            pytest.param(lambda row: replace(row, generation=row.generation - 1), id="older-generation"),
            pytest.param(lambda row: replace(row, multipart=MultipartRef(row.key, "other")), id="multipart"),
            pytest.param(lambda row: replace(row, multipart=None), id="no-multipart"),
            pytest.param(lambda row: replace(row, tail=replace(row.tail, name="other")), id="tail"),
            pytest.param(lambda row: replace(row, tail=None), id="no-tail"),
            pytest.param(lambda row: replace(row, pins=row.pins + 1), id="pins"),
            pytest.param(lambda row: replace(row, id=new_upload_id()), id="id"),
        ],
    )
    async def test_a_commit_on_a_row_that_differs_in_one_field_is_stale_and_nothing_changes(
        self, repository: UploadRepository, admin: RepositoryAdmin, differ: Callable[[Upload], Upload]
    ) -> None:
        held = await claimed(repository, await repository.add(new_upload()))
        row = await repository.commit(
            held,
            replace(held, offset=8, part_count=1, multipart=_MULTIPART, key=_MULTIPART.key, tail=_TAIL),
            parts=[part(1)],
        )
        before = differ(row)

        with pytest.raises(StaleUploadError):
            await repository.commit(
                before, replace(before, offset=10, reason="new"), parts=[part(2)], events=[EventType.FINISHED]
            )

        assert await repository.find(row.id) == row
        assert list(await repository.find_parts(row.id)) == [part(1)]
        assert await admin.find_events(row.id) == []
        assert await admin.find_events(before.id) == []

    async def test_a_field_that_the_row_lacks_is_compared_too(self, repository: UploadRepository) -> None:
        row = await repository.add(new_upload())

        for before in (
            replace(row, lease=Lease(token="t", holder="h")),
            replace(row, multipart=MultipartRef("k", "m"), key="k"),
            replace(row, tail=_TAIL),
        ):
            with pytest.raises(StaleUploadError):
                await repository.commit(before, before)

        assert await repository.find(row.id) == row

    async def test_of_many_commits_on_one_predecessor_one_succeeds(
        self, repository: UploadRepository, rival: UploadRepository, admin: RepositoryAdmin
    ) -> None:
        held = await claimed(repository, await repository.add(new_upload()))

        results = await outcomes(
            *(
                which.commit(
                    held,
                    replace(held, offset=5, part_count=1),
                    parts=[replace(part(1), e_tag=f"attempt-{number}")],
                    events=[EventType.FINISHED],
                )
                for number, which in enumerate([repository, rival] * 10)
            )
        )

        winners = [number for number, result in enumerate(results) if isinstance(result, Upload)]
        assert len(winners) == 1
        assert sum(isinstance(result, StaleUploadError) for result in results) == 19
        assert [p.e_tag for p in await repository.find_parts(held.id)] == [f"attempt-{winners[0]}"]
        assert len(await admin.find_events(held.id)) == 1

    async def test_of_an_append_and_a_termination_one_succeeds(
        self, repository: UploadRepository, rival: UploadRepository, admin: RepositoryAdmin
    ) -> None:
        for _ in range(10):
            held = await claimed(repository, await repository.add(new_upload()))
            aborting = replace(held, state=UploadState.ABORTING, lease=None)

            appended, terminated = await outcomes(
                repository.commit(held, replace(held, offset=5, part_count=1), parts=[part(1)]),
                rival.commit(held, aborting, events=[EventType.TERMINATED]),
            )

            winner = appended if isinstance(appended, Upload) else terminated
            loser = terminated if isinstance(appended, Upload) else appended
            assert isinstance(loser, StaleUploadError)
            assert await repository.find(held.id) == winner
            assert len(await repository.find_parts(held.id)) == winner.part_count
            assert len(await admin.find_events(held.id)) == (winner is terminated)

    async def test_many_writers_that_take_turns_lose_no_byte(
        self, repository: UploadRepository, rival: UploadRepository
    ) -> None:
        upload = await repository.add(new_upload(length=None))

        async def write(which: UploadRepository) -> None:
            done = 0
            while done < 5:
                row = await which.find(upload.id)
                assert row is not None
                try:
                    await which.commit(row, replace(row, offset=row.offset + 1))
                except StaleUploadError:
                    continue
                done += 1

        await asyncio.gather(*(write(which) for which in [repository, rival] * 3))

        found = await get(repository, upload)
        assert (found.offset, found.generation) == (30, 30)

    async def test_a_lease_that_a_commit_keeps_is_renewed(
        self, repository: UploadRepository, admin: RepositoryAdmin
    ) -> None:
        held = await claimed(repository, await repository.add(new_upload()))
        await admin.end_lease(held.id)

        committed = await repository.commit(held, replace(held, offset=5))

        assert committed.lease == held.lease
        assert await repository.find(held.id) == committed

    async def test_a_lease_that_a_commit_drops_is_free(self, repository: UploadRepository) -> None:
        held = await claimed(repository, await repository.add(new_upload()), token="old")
        await repository.request_release(held.id, "old")

        released = await repository.commit(held, replace(held, lease=None))

        assert released.lease is None
        assert await repository.find(held.id) == released
        assert (await claimed(repository, released, token="new")).lease == Lease(token="new", holder="node-1/process-1")

    async def test_a_commit_can_take_a_lease(self, repository: UploadRepository) -> None:
        upload = await repository.add(new_upload())
        first, second = Lease(token="first", holder="h-1"), Lease(token="second", holder="h-2")

        taken = await repository.commit(upload, replace(upload, lease=first))
        assert taken.lease == first
        assert await repository.find(upload.id) == taken
        await repository.request_release(upload.id, "first")

        taken = await repository.commit(taken, replace(taken, lease=second))
        assert taken.lease == second
        assert await repository.find(upload.id) == taken

    async def test_a_commit_tells_the_holder_that_somebody_asks_for_the_lease(
        self, repository: UploadRepository
    ) -> None:
        held = await claimed(repository, await repository.add(new_upload()), token="mine")
        await repository.request_release(held.id, "mine")

        committed = await repository.commit(held, replace(held, offset=5))

        assert committed.lease is not None
        assert committed.lease.release_requested
        assert await repository.find(held.id) == committed

    async def test_a_holder_whose_lease_ran_out_may_commit_if_nobody_came(
        self, repository: UploadRepository, admin: RepositoryAdmin
    ) -> None:
        held = await claimed(repository, await repository.add(new_upload()))
        await admin.end_lease(held.id)

        assert (await repository.commit(held, replace(held, offset=5, lease=None))).offset == 5

    async def test_events_are_recorded_once_with_the_commit(
        self, repository: UploadRepository, admin: RepositoryAdmin
    ) -> None:
        upload = await repository.add(new_upload(), events=[EventType.CREATED])
        held = await claimed(repository, upload)
        assert len(await admin.find_events(upload.id)) == 1

        await repository.commit(
            held,
            replace(held, state=UploadState.COMPLETE, offset=10, key="a/key", e_tag="e", lease=None),
            events=[EventType.FINISHED],
        )

        created, finished = await admin.find_events(upload.id)
        assert created["type"] == "created"
        assert finished == {
            "upload_id": upload.id,
            "owner": "alice",
            "type": "finished",
            "offset": 10,
            "length": 10,
            "key": "a/key",
            "reason": None,
        }

    async def test_an_event_that_is_no_finish_names_no_key(
        self, repository: UploadRepository, admin: RepositoryAdmin
    ) -> None:
        upload = await repository.add(new_upload())
        after = replace(upload, state=UploadState.FAILED, key="a/key", reason="tail_missing")

        await repository.commit(upload, after, events=[EventType.FAILED, EventType.TERMINATED])

        failed, terminated = await admin.find_events(upload.id)
        assert (failed["type"], failed["key"], failed["reason"]) == ("failed", None, "tail_missing")
        assert terminated["type"] == "terminated"

    async def test_a_commit_moves_the_expiry_of_an_active_upload_with_less_than_half_its_time_left(
        self, repository: UploadRepository, admin: RepositoryAdmin
    ) -> None:
        held = await claimed(repository, await repository.add(new_upload()))
        await admin.set_time_left(held.id, EXPIRES_IN / 2 - _HOUR)
        before = await get(repository, held)

        committed = await repository.commit(before, replace(before, offset=5), parts=[part(1)])

        _assert_moved(before, committed)
        assert await repository.find(held.id) == committed

    async def test_a_commit_leaves_an_expiry_that_has_more_than_half_its_time_left(
        self, repository: UploadRepository, admin: RepositoryAdmin
    ) -> None:
        held = await claimed(repository, await repository.add(new_upload()))
        await admin.set_time_left(held.id, EXPIRES_IN / 2 + _HOUR)
        before = await get(repository, held)

        committed = await repository.commit(before, replace(before, offset=5))

        assert committed.expires_at == before.expires_at

    @pytest.mark.parametrize("state", [state for state in UploadState if state is not UploadState.ACTIVE])
    async def test_a_commit_moves_the_expiry_of_no_other_upload(
        self, repository: UploadRepository, admin: RepositoryAdmin, state: UploadState
    ) -> None:
        upload = await repository.add(new_upload(partial=True))
        await admin.set_time_left(upload.id, _HOUR)
        before = await get(repository, upload)

        committed = await repository.commit(before, replace(before, state=state))

        assert committed.expires_at == before.expires_at

    async def test_a_complete_upload_does_not_expire(
        self, repository: UploadRepository, admin: RepositoryAdmin
    ) -> None:
        upload = await in_state(repository, UploadState.FINALIZING)
        await admin.set_time_left(upload.id, -_HOUR)
        before = await get(repository, upload)
        assert before.expired

        done = await repository.commit(before, replace(before, state=UploadState.COMPLETE))

        assert done.expires_at is None
        assert not done.expired
        assert await repository.find(upload.id) == done

    async def test_a_complete_partial_upload_expires_as_before(self, repository: UploadRepository) -> None:
        upload = await repository.add(new_upload(partial=True))

        done = await repository.commit(upload, replace(upload, state=UploadState.COMPLETE))

        assert done.expires_at == upload.expires_at
        assert await repository.find(upload.id) == done

    # Leases

    async def test_a_lease_that_ran_out_is_not_live(self, repository: UploadRepository, admin: RepositoryAdmin) -> None:
        held = await claimed(repository, await repository.add(new_upload()))
        assert held.lease is not None
        assert held.lease.live

        await admin.end_lease(held.id)

        lease = (await get(repository, held)).lease
        assert lease is not None
        assert not lease.live

    async def test_leases_are_renewed_by_their_tokens_alone(
        self, repository: UploadRepository, admin: RepositoryAdmin
    ) -> None:
        tokens = ("kept", "kept-too", "lost", "not-asked")
        held = {token: await claimed(repository, await repository.add(new_upload()), token=token) for token in tokens}
        await claimed(repository, held["lost"], take_over="lost", token="taken")
        for upload in held.values():
            await admin.end_lease(upload.id)

        await repository.renew({token: held[token].id for token in ("kept", "kept-too", "lost")} | {"gone": "no-row"})

        live = {}
        for token, upload in held.items():
            lease = (await get(repository, upload)).lease
            assert lease is not None
            live[token] = lease.live
        assert live == {"kept": True, "kept-too": True, "lost": False, "not-asked": False}

    async def test_renewing_nothing_does_nothing(self, repository: UploadRepository, admin: RepositoryAdmin) -> None:
        held = await claimed(repository, await repository.add(new_upload()))
        await admin.end_lease(held.id)

        await repository.renew({})

        lease = (await get(repository, held)).lease
        assert lease is not None
        assert not lease.live

    async def test_a_lease_that_was_given_back_is_not_renewed(self, repository: UploadRepository) -> None:
        held = await claimed(repository, await repository.add(new_upload()), token="mine")
        released = await repository.commit(held, replace(held, lease=None))

        await repository.renew({"mine": held.id})

        assert await repository.find(held.id) == released

    async def test_a_release_is_requested_of_one_lease(
        self, repository: UploadRepository, rival: UploadRepository
    ) -> None:
        asked = await claimed(repository, await repository.add(new_upload()), token="asked")
        other = await claimed(repository, await repository.add(new_upload()), token="other")

        await rival.request_release(asked.id, "asked")
        await rival.request_release(other.id, "a token of old")

        leases = {"asked": asked.id, "other": other.id}
        assert list(await repository.find_release_requests(leases)) == ["asked"]
        assert list(await repository.find_release_requests({"other": other.id})) == []
        assert list(await repository.find_release_requests({"another": asked.id})) == []
        assert list(await repository.find_release_requests({})) == []
        assert await repository.find(asked.id) == replace(
            asked,
            lease=replace(asked.lease, release_requested=True),  # type: ignore[type-var]
        )

    async def test_a_refused_release_is_not_requested_any_more(self, repository: UploadRepository) -> None:
        held = await claimed(repository, await repository.add(new_upload()), token="mine")
        await repository.request_release(held.id, "mine")

        await repository.refuse_release(held.id, "another")
        assert list(await repository.find_release_requests({"mine": held.id})) == ["mine"]
        await repository.refuse_release(held.id, "mine")

        assert list(await repository.find_release_requests({"mine": held.id})) == []
        assert await repository.find(held.id) == held

    # What the reaper asks

    async def test_expired_uploads_are_due_the_longest_overdue_before_others(
        self, repository: UploadRepository, admin: RepositoryAdmin
    ) -> None:
        uploads = [await repository.add(new_upload()) for _ in range(4)]
        for upload, hours in zip(uploads, (1, 3, 2, -1), strict=True):
            await admin.set_time_left(upload.id, -hours * _HOUR)

        taken = await repository.take_due(Due.EXPIRED, limit=10, hold=_NONE)

        assert {one.upload.id for one in taken} == {upload.id for upload in uploads[:3]}
        assert all(one.upload.expired and one.failures == 0 for one in taken)
        assert await repository.count_due(Due.EXPIRED) == 3
        assert await due(repository, Due.EXPIRED, limit=2) == {uploads[1].id, uploads[2].id}
        assert await due(repository, Due.EXPIRED, limit=0) == set()

    @pytest.mark.parametrize("kind", [Due.EXPIRED, Due.UNFINISHED])
    async def test_what_a_live_lease_holds_is_not_due(
        self, repository: UploadRepository, admin: RepositoryAdmin, kind: Due
    ) -> None:
        if kind is Due.EXPIRED:
            held = await claimed(repository, await repository.add(new_upload()))
            await admin.set_time_left(held.id, -_HOUR)
        else:
            held = await in_state(repository, UploadState.FINALIZING)
            await repository.claim_work(held.id, UploadState.FINALIZING, token="t", holder="h")
        assert await due(repository, kind) == set()
        assert await repository.count_due(kind) == 0

        await admin.end_lease(held.id)

        assert await due(repository, kind) == {held.id}
        assert await repository.count_due(kind) == 1

    async def test_an_expired_partial_upload_is_due_when_nobody_pins_it(
        self, repository: UploadRepository, admin: RepositoryAdmin
    ) -> None:
        source = await completed_partial(repository)
        final = await repository.add(concatenation_of(source))
        await admin.set_time_left(source.id, -_HOUR)
        assert await due(repository, Due.EXPIRED) == set()

        await repository.commit(final, replace(final, state=UploadState.COMPLETE))

        assert await due(repository, Due.EXPIRED) == {source.id}

    @pytest.mark.parametrize(
        "state",
        [state for state in UploadState if state not in (UploadState.ACTIVE, UploadState.COMPLETE)],
    )
    async def test_what_is_gone_or_being_made_is_not_due_as_expired(
        self, repository: UploadRepository, admin: RepositoryAdmin, state: UploadState
    ) -> None:
        upload = await in_state(repository, state)
        await admin.set_time_left(upload.id, -_HOUR)

        assert await due(repository, Due.EXPIRED) == set()

    async def test_an_upload_that_was_appended_to_since_is_not_dropped_as_expired(
        self, repository: UploadRepository, rival: UploadRepository, admin: RepositoryAdmin
    ) -> None:
        upload = await repository.add(new_upload())
        await admin.set_time_left(upload.id, -_HOUR)
        (overdue,) = await rival.take_due(Due.EXPIRED, limit=10, hold=_HOUR)
        await admin.set_time_left(upload.id, _HOUR)
        await claimed(repository, upload)

        ending = replace(overdue.upload, state=UploadState.ABORTING)
        with pytest.raises(StaleUploadError):
            await rival.commit(overdue.upload, ending, events=[EventType.EXPIRED])

    async def test_unfinished_uploads_are_due_the_oldest_change_before_others(
        self, repository: UploadRepository, admin: RepositoryAdmin
    ) -> None:
        uploads = [
            await in_state(repository, state)
            for state in (UploadState.FINALIZING, UploadState.CONCATENATING, UploadState.ABORTING)
        ]
        for upload, hours in zip(uploads, (2, 3, 1), strict=True):
            await admin.set_state_age(upload.id, hours * _HOUR)

        taken = await repository.take_due(Due.UNFINISHED, limit=10, hold=_NONE)
        assert sorted(one.upload.id for one in taken) == sorted(upload.id for upload in uploads)
        assert all(one.upload in uploads for one in taken)
        assert await due(repository, Due.UNFINISHED, limit=2) == {uploads[0].id, uploads[1].id}
        assert await due(repository, Due.UNFINISHED, limit=1) == {uploads[1].id}

    async def test_the_age_of_a_state_begins_with_the_commit_that_changes_it(
        self, repository: UploadRepository, admin: RepositoryAdmin
    ) -> None:
        first = await in_state(repository, UploadState.FINALIZING)
        second = await in_state(repository, UploadState.FINALIZING)
        third = await repository.add(new_upload())
        for upload, hours in ((first, 2), (second, 1), (third, 3)):
            await admin.set_state_age(upload.id, hours * _HOUR)

        # A commit within the state leaves its age, one that enters it begins anew.
        await repository.commit(first, replace(first, reason="tried once"))
        await repository.commit(third, replace(third, state=UploadState.FINALIZING))

        assert await due(repository, Due.UNFINISHED, limit=1) == {first.id}
        assert await due(repository, Due.UNFINISHED, limit=2) == {first.id, second.id}
        assert await due(repository, Due.UNFINISHED, limit=3) == {first.id, second.id, third.id}

    @pytest.mark.parametrize(
        "state", [UploadState.ACTIVE, UploadState.COMPLETE, UploadState.ABORTED, UploadState.FAILED]
    )
    async def test_what_nobody_has_to_finish_is_not_due_as_unfinished(
        self, repository: UploadRepository, state: UploadState
    ) -> None:
        await in_state(repository, state)

        assert await due(repository, Due.UNFINISHED) == set()

    async def test_what_is_complete_and_untidy_is_due_until_it_is_tidied(self, repository: UploadRepository) -> None:
        for state in (UploadState.ACTIVE, UploadState.FINALIZING):
            other = await in_state(repository, state)
            await repository.commit(other, replace(other, untidy=True))
        upload = await in_state(repository, UploadState.COMPLETE)
        assert await due(repository, Due.UNTIDY) == set()

        upload = await repository.commit(upload, replace(upload, untidy=True))
        assert [one.upload for one in await repository.take_due(Due.UNTIDY, limit=10, hold=_NONE)] == [upload]

        await repository.commit(upload, replace(upload, untidy=False))
        assert await due(repository, Due.UNTIDY) == set()

    async def test_what_was_taken_is_nobody_elses_until_its_time_is_over(
        self, repository: UploadRepository, rival: UploadRepository, admin: RepositoryAdmin
    ) -> None:
        uploads = [await in_state(repository, UploadState.FINALIZING) for _ in range(3)]
        first = await due(repository, Due.UNFINISHED, limit=2, hold=_HOUR)
        second = await due(rival, Due.UNFINISHED, hold=_HOUR)
        assert (len(first), len(second)) == (2, 1)
        assert first | second == {upload.id for upload in uploads}
        assert await due(repository, Due.UNFINISHED) == set()
        assert await repository.count_due(Due.UNFINISHED) == 3

        await admin.end_wait(uploads[0].id)

        assert await due(rival, Due.UNFINISHED, hold=_HOUR) == {uploads[0].id}

    async def test_many_that_take_at_once_are_given_each_upload_once(
        self, repository: UploadRepository, rival: UploadRepository
    ) -> None:
        uploads = [await in_state(repository, UploadState.ABORTING) for _ in range(12)]
        takers = [repository, rival] * 4

        taken = await asyncio.gather(*(due(taker, Due.UNFINISHED, limit=3, hold=_HOUR) for taker in takers))

        ids = [upload_id for some in taken for upload_id in some]
        assert len(ids) == len(set(ids))
        # One that came while all rows before the limit were being given away may have got none; nothing is lost.
        rest = await due(repository, Due.UNFINISHED, limit=12)
        assert {*ids, *rest} == {upload.id for upload in uploads}

    async def test_taking_hinders_nobody_who_comes_for_the_upload(
        self, repository: UploadRepository, rival: UploadRepository, admin: RepositoryAdmin
    ) -> None:
        upload = await repository.add(new_upload())
        await admin.set_time_left(upload.id, -_HOUR)
        before = await get(repository, upload)

        (taken,) = await rival.take_due(Due.EXPIRED, limit=1, hold=_HOUR)

        assert taken.upload == before == await get(repository, upload)

    async def test_what_failed_is_put_off_and_remembers_how_often(
        self, repository: UploadRepository, admin: RepositoryAdmin
    ) -> None:
        upload = await in_state(repository, UploadState.FINALIZING)
        await repository.put_off(upload.id, by=_HOUR, reason="no room")
        await repository.put_off(upload.id, by=_HOUR, reason="no room")
        assert await due(repository, Due.UNFINISHED) == set()
        assert await repository.count_due(Due.UNFINISHED) == 1
        await admin.end_wait(upload.id)
        (again,) = await repository.take_due(Due.UNFINISHED, limit=1, hold=_NONE)
        assert again.failures == 2

        upload = await repository.commit(upload, replace(upload, state=UploadState.ABORTING))

        (anew,) = await repository.take_due(Due.UNFINISHED, limit=1, hold=_NONE)
        assert anew.failures == 0

    async def test_states_are_told_of_the_uploads_that_there_are(self, repository: UploadRepository) -> None:
        active = await repository.add(new_upload())
        complete = await in_state(repository, UploadState.COMPLETE)

        states = await repository.find_states({active.id, complete.id, new_upload_id(), ""})

        assert states == {active.id: UploadState.ACTIVE, complete.id: UploadState.COMPLETE}
        assert await repository.find_states([]) == {}

    # Old records

    async def test_records_are_purged_that_ended_long_ago_with_their_parts_and_events(
        self, repository: UploadRepository, admin: RepositoryAdmin
    ) -> None:
        upload = await repository.add(new_upload(), events=[EventType.CREATED])
        upload = await repository.commit(upload, replace(upload, part_count=1, offset=5), parts=[part(1)])
        upload = await repository.commit(upload, replace(upload, state=UploadState.COMPLETE, offset=10))
        young = await in_state(repository, UploadState.ABORTED)
        await admin.age(upload.id, 2 * _HOUR)
        assert await repository.count_purgeable(_HOUR) == 1

        assert await repository.purge(_HOUR, limit=10) == 1

        assert await repository.find(upload.id) is None
        assert list(await repository.find_parts(upload.id)) == []
        assert list(await admin.find_events(upload.id)) == []
        assert await repository.find(young.id) is not None
        assert await repository.count_purgeable(_HOUR) == await repository.purge(_HOUR, limit=10) == 0

    @pytest.mark.parametrize("state", list(UploadState))
    async def test_only_records_of_what_has_ended_are_purged(
        self, repository: UploadRepository, admin: RepositoryAdmin, state: UploadState
    ) -> None:
        upload = await in_state(repository, state)
        await admin.age(upload.id, 2 * _HOUR)

        purged = await repository.purge(_HOUR, limit=10)

        assert purged == (state in {UploadState.COMPLETE, UploadState.ABORTED, UploadState.FAILED})
        assert (await repository.find(upload.id) is None) == bool(purged)

    async def test_what_is_still_to_be_tidied_is_not_purged(
        self, repository: UploadRepository, admin: RepositoryAdmin
    ) -> None:
        upload = await in_state(repository, UploadState.COMPLETE)
        await repository.commit(upload, replace(upload, untidy=True))
        await admin.age(upload.id, 2 * _HOUR)

        assert await repository.purge(_HOUR, limit=10) == 0

    async def test_what_is_joined_is_purged_after_what_it_was_joined_into(
        self, repository: UploadRepository, admin: RepositoryAdmin
    ) -> None:
        source = await completed_partial(repository)
        final = await repository.add(concatenation_of(source))
        await repository.commit(final, replace(final, state=UploadState.COMPLETE))
        for upload in (source, final):
            await admin.age(upload.id, 2 * _HOUR)

        assert await repository.purge(_HOUR, limit=10) == 1
        assert await repository.find(final.id) is None
        assert await repository.purge(_HOUR, limit=10) == 1
        assert await repository.find(source.id) is None

    async def test_no_more_is_purged_than_was_asked(self, repository: UploadRepository, admin: RepositoryAdmin) -> None:
        for _ in range(3):
            await admin.age((await in_state(repository, UploadState.FAILED)).id, 2 * _HOUR)

        assert [await repository.purge(_HOUR, limit=2) for _ in range(3)] == [2, 1, 0]

    async def test_the_last_run_is_noted(self, repository: UploadRepository, rival: UploadRepository) -> None:
        assert await repository.find_reaped() is None
        await repository.note_reaped()
        first = await rival.find_reaped()
        assert first is not None
        assert first.tzinfo is UTC
        await rival.note_reaped()
        second = await repository.find_reaped()
        assert second is not None
        assert second >= first

    # Tails and nodes

    async def test_tail_names_are_found_on_their_node_while_a_row_names_them(
        self, repository: UploadRepository
    ) -> None:
        here = await repository.add(new_upload())
        here = await repository.commit(here, replace(here, offset=3, tail=replace(_TAIL, name="here", node="n-1")))
        there = await repository.add(new_upload())
        await repository.commit(there, replace(there, offset=3, tail=replace(_TAIL, name="there", node="n-2")))
        names = ["here", "there", "nowhere"]

        assert set(await repository.find_tail_names("n-1", names)) == {"here"}
        assert set(await repository.find_tail_names("n-2", names)) == {"there"}
        assert set(await repository.find_tail_names("n-1", [])) == set()
        await repository.commit(here, replace(here, tail=None))
        assert set(await repository.find_tail_names("n-1", names)) == set()

    async def test_many_tail_names_can_be_asked_for_at_once(self, repository: UploadRepository) -> None:
        upload = await repository.add(new_upload())
        await repository.commit(upload, replace(upload, offset=3, tail=_TAIL))
        names = [f"name-{number}" for number in range(70_000)]

        assert set(await repository.find_tail_names("node-1", {*names, "a.tail"})) == {"a.tail"}

    async def test_a_node_is_known_from_its_first_beat(self, repository: UploadRepository) -> None:
        assert await repository.find_node("n-1") is None

        await repository.beat("n-1", "host-a")

        node = await repository.find_node("n-1")
        assert node is not None
        assert (node.id, node.name, node.retired_at) == ("n-1", "host-a", None)
        assert node.seen_at.tzinfo is UTC

    async def test_each_beat_says_when_and_under_which_name(
        self, repository: UploadRepository, rival: UploadRepository
    ) -> None:
        await repository.beat("n-1", "host-a")
        first = await repository.find_node("n-1")
        assert first is not None

        while True:
            await rival.beat("n-1", "host-b")
            second = await repository.find_node("n-1")
            assert second is not None
            if second.seen_at > first.seen_at:  # at the database clock's next tick
                break

        assert second.name == "host-b"

    async def test_a_beat_does_not_bring_a_retired_node_back(
        self, repository: UploadRepository, admin: RepositoryAdmin
    ) -> None:
        await repository.beat("n-1", "host-a")
        await admin.retire_node("n-1")

        await repository.beat("n-1", "host-a")

        node = await repository.find_node("n-1")
        assert node is not None
        assert node.retired_at is not None


class SignallingRepositoryContract(UploadRepositoryContract):
    """The suite, and what is heard. Signals come in the order of the commits that they tell of."""

    async def test_a_request_is_heard_by_every_process(
        self, repository: UploadRepository, rival: UploadRepository
    ) -> None:
        held = await claimed(repository, await repository.add(new_upload()), token="mine")

        async with listening(repository) as here, listening(rival) as there:
            await rival.request_release(held.id, "mine")

            assert await here.next() == await there.next() == (LeaseSignal.REQUESTED, held.id)

    @pytest.mark.parametrize(
        ("changes", "parts", "events"),
        [
            pytest.param({}, [], [], id="released"),
            pytest.param({"offset": 5, "part_count": 1}, [part(1)], [], id="with_a_part"),
            pytest.param({"state": UploadState.FINALIZING}, [], [], id="finalizing"),
            pytest.param({"state": UploadState.COMPLETE}, [], [EventType.FINISHED], id="with_an_event"),
            pytest.param({"state": UploadState.ABORTING}, [], [EventType.TERMINATED], id="terminated"),
        ],
    )
    async def test_a_release_is_heard_when_somebody_asked_for_it(
        self,
        repository: UploadRepository,
        rival: UploadRepository,
        changes: dict[str, Any],
        parts: list[Part],
        events: list[EventType],
    ) -> None:
        held = await claimed(repository, await repository.add(new_upload()), token="mine")
        await rival.request_release(held.id, "mine")

        async with listening(rival) as heard:
            await repository.commit(held, replace(held, lease=None, **changes), parts=parts, events=events)

            assert await heard.next() == (LeaseSignal.RELEASED, held.id)

    async def test_the_release_of_a_concatenation_is_heard_when_somebody_asked_for_it(
        self, repository: UploadRepository, rival: UploadRepository
    ) -> None:
        final = await repository.add(concatenation_of(await completed_partial(repository)))
        held = await repository.claim_work(final.id, final.state, token="mine", holder="h")
        assert held is not None
        await rival.request_release(held.id, "mine")

        async with listening(rival) as heard:
            await repository.commit(held, replace(held, state=UploadState.COMPLETE, lease=None, key="k"))

            assert await heard.next() == (LeaseSignal.RELEASED, held.id)

    async def test_what_did_not_happen_or_concerns_nobody_is_not_heard(
        self, repository: UploadRepository, rival: UploadRepository
    ) -> None:
        async with listening(rival) as heard:
            held = await claimed(repository, await repository.add(new_upload()), token="first")
            await rival.request_release(held.id, "a token of old")
            await rival.request_release(held.id, "first")
            assert await heard.next() == (LeaseSignal.REQUESTED, held.id)

            await repository.refuse_release(held.id, "first")
            kept = await repository.commit(held, replace(held, offset=5, part_count=1), parts=[part(1)])
            for late in (replace(held, lease=None), replace(held, state=UploadState.ABORTING, lease=None)):
                with pytest.raises(StaleUploadError):
                    await repository.commit(held, late)
            released = await repository.commit(kept, replace(kept, lease=None))  # the request was refused
            again = await claimed(repository, released, token="second")
            await rival.request_release(again.id, "second")
            assert await heard.next() == (LeaseSignal.REQUESTED, held.id)

            released = await repository.commit(again, replace(again, lease=None))
            assert await heard.next() == (LeaseSignal.RELEASED, held.id)
            again = await claimed(repository, released, token="third")
            await repository.commit(again, replace(again, lease=None))  # what was asked of the second is over
            other = await claimed(repository, await repository.add(new_upload()), token="other")
            await rival.request_release(other.id, "other")
            assert await heard.next() == (LeaseSignal.REQUESTED, other.id)


def _assert_moved(before: Upload, after: Upload) -> None:
    assert before.expires_at is not None
    assert after.expires_at is not None
    assert abs(after.expires_at - before.expires_at - EXPIRES_IN / 2 - _HOUR) < timedelta(minutes=1)
