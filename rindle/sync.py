"""The object store for code that does not await: the same calls, blocking, over an event loop in a thread.

::

    import rindle.sync

    with rindle.sync.open_store("file:///var/lib/objects") as store:
        store.put("greeting", b"hello")
        for meta in store.list():
            print(meta.key, meta.size)
"""

import asyncio
import os
import queue
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, suppress
from datetime import timedelta
from types import TracebackType
from typing import Any, Literal, Self, TypeGuard, TypeVar

from typing_extensions import override

from rindle.objectstore import ext, urls
from rindle.objectstore.base import PAGE_SIZE, GetResult, Key, MultipartStore, ObjectStore, SignedMethod
from rindle.objectstore.bodies import Body, SizedBody, as_bytes
from rindle.objectstore.errors import ObjectStoreError, UnsupportedOperationError
from rindle.objectstore.payload import Payload
from rindle.objectstore.types import (
    Attributes,
    ByteRange,
    Capabilities,
    CopyMode,
    DeleteResult,
    GetOptions,
    ListPage,
    MultipartMeta,
    MultipartOptions,
    MultipartRef,
    ObjectMeta,
    PartMeta,
    PutOptions,
    PutResult,
)

Item = TypeVar("Item")
Result = TypeVar("Result")

_PUT = PutOptions()
_GET = GetOptions()
_MULTIPART = MultipartOptions()
_FEED_SIZE = 1 << 16  # what is handed from one thread to another at a time, so that small chunks are not slow


def open_store(url: str, **options: Any) -> "BlockingStore":  # noqa: ANN401 - each store has options of its own
    """The store that a URL names, as :func:`rindle.open_store`; whoever opens it closes it (``with``)."""
    return BlockingStore(urls.open_store(url, **options))


class BlockingStore:
    """An :class:`~rindle.objectstore.ObjectStore` whose calls return when they are done. Its calls are described there.

    Give it one that nothing has used yet: it lives on a loop of its own from now on, in a thread, and is closed with
    it. May be used by many threads at once, and not by a process forked from this one. A call that is interrupted
    (Ctrl-C) is cancelled. Closed when it is forgotten, and at the end of the program, if not before.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._loop = _BackgroundLoop(store.aclose)
        self._close = weakref.finalize(self, self._loop.close)

    @property
    def name(self) -> str:
        """The store's name, in errors and logs."""
        return self._store.name

    @property
    def capabilities(self) -> Capabilities:
        """What the store can do; may have grown after :meth:`prepare`."""
        return self._store.capabilities

    # Objects

    def put(self, key: Key, body: Body, options: PutOptions = _PUT) -> PutResult:
        """Write an object. A plain iterable is read in this thread, while the call lasts."""
        if _is_iterable(body):
            return self._loop.run_fed(body, lambda chunks: self._store.put(key, chunks, options))
        return self._loop.run(self._store.put(key, body, options))

    def get(self, key: Key, options: GetOptions = _GET) -> "BlockingResult":
        """Open an object for reading; close it (``with``), or read it to its end."""
        return BlockingResult(self, self._loop.run(self._store.get(key, options)))

    def read(self, key: Key, options: GetOptions = _GET) -> bytes:
        """All bytes of an object, or of a range of it, in memory."""
        return self._loop.run(ext.read(self._store, key, options))

    def download(self, key: Key, path: os.PathLike[str], options: GetOptions = _GET) -> ObjectMeta:
        """Write an object to a file: wholly and durably, or not at all."""
        return self._loop.run(ext.download(self._store, key, path, options))

    def get_ranges(self, key: Key, ranges: Sequence[ByteRange], *, near: int = ext.NEAR) -> Sequence[bytes]:
        """The bytes of several ranges of one version of an object, in the order asked for."""
        return self._loop.run(ext.get_ranges(self._store, key, ranges, near=near))

    def head(self, key: Key, options: GetOptions = _GET) -> ObjectMeta:
        """What :meth:`get` would say of the object, without its bytes."""
        return self._loop.run(self._store.head(key, options))

    def exists(self, key: Key) -> bool:
        """Whether there is an object under the key now."""
        return self._loop.run(ext.exists(self._store, key))

    def delete(self, key: Key) -> None:
        """Remove an object; one that is absent is fine."""
        self._loop.run(self._store.delete(key))

    def delete_many(self, keys: Iterable[Key]) -> Sequence[DeleteResult]:
        """Remove many objects; one result per key, in the order given."""
        return self._loop.run(self._store.delete_many(list(keys)))

    def list_page(
        self,
        prefix: str = "",
        *,
        delimiter: bool = False,
        start_after: str | None = None,
        token: str | None = None,
        limit: int = PAGE_SIZE,
        consistent: bool | None = None,
    ) -> ListPage:
        """One page of the keys that start with ``prefix``."""
        return self._loop.run(
            self._store.list_page(
                prefix, delimiter=delimiter, start_after=start_after, token=token, limit=limit, consistent=consistent
            )
        )

    def list(
        self,
        prefix: str = "",
        *,
        start_after: str | None = None,
        consistent: bool | None = None,
        on_error: Callable[[ObjectStoreError], Literal["stop", "retry"]] | None = None,
    ) -> Iterator[ObjectMeta]:
        """All objects whose key starts with ``prefix``, fetched page by page as they are read.

        ``on_error`` is called in the thread of the loop, and must not call the store.
        """
        return self._iterate(
            self._store.list(prefix, start_after=start_after, consistent=consistent, on_error=on_error)
        )

    def list_with_delimiter(self, prefix: str = "", *, consistent: bool | None = None) -> ListPage:
        """The direct children of ``prefix``."""
        return self._loop.run(self._store.list_with_delimiter(prefix, consistent=consistent))

    def copy(self, source: Key, target: Key, *, mode: CopyMode = "overwrite") -> PutResult:
        """Copy an object with its attributes and tags."""
        return self._loop.run(self._store.copy(source, target, mode=mode))

    def rename(self, source: Key, target: Key) -> PutResult:
        """Copy, then delete the source; not atomic."""
        return self._loop.run(ext.rename(self._store, source, target))

    def rename_if_not_exists(self, source: Key, target: Key) -> PutResult:
        """As :meth:`rename`; AlreadyExistsError, and the source stays, when the target's key is taken."""
        return self._loop.run(ext.rename_if_not_exists(self._store, source, target))

    def get_tags(self, key: Key) -> Mapping[str, str]:
        """The tags of an object."""
        return self._loop.run(self._store.get_tags(key))

    def put_tags(self, key: Key, tags: Mapping[str, str]) -> None:
        """Replace all tags of an object."""
        self._loop.run(self._store.put_tags(key, tags))

    def sign_url(self, method: SignedMethod, key: Key, expires_in: timedelta) -> str:
        """A URL that lets whoever holds it do one thing to one object for a while."""
        return self._loop.run(self._store.sign_url(method, key, expires_in))

    # Multiparts

    def create_multipart(self, key: Key, options: MultipartOptions = _MULTIPART) -> MultipartRef:
        """Begin a multipart."""
        return self._loop.run(self._multiparts.create_multipart(key, options))

    @contextmanager
    def multipart(self, key: Key, options: MultipartOptions = _MULTIPART) -> Iterator[MultipartRef]:
        """A multipart for the length of a block, which completes it; if the block ends with an error, it is aborted."""
        ref = self.create_multipart(key, options)
        try:
            yield ref
        except BaseException as error:
            try:
                self.abort_multipart(ref)
            except ObjectStoreError as failure:
                error.add_note(f"and its multipart {ref.multipart_id} could not be aborted: {failure}")
            raise

    def put_part(self, ref: MultipartRef, part_number: int, body: SizedBody) -> PartMeta:
        """Store one part durably."""
        return self._loop.run(self._multiparts.put_part(ref, part_number, body))

    def copy_part(
        self, ref: MultipartRef, part_number: int, source: Key, byte_range: ByteRange | None = None
    ) -> PartMeta:
        """As :meth:`put_part`, with the bytes of another object of the same store."""
        return self._loop.run(self._multiparts.copy_part(ref, part_number, source, byte_range))

    def list_parts(self, ref: MultipartRef) -> Iterator[PartMeta]:
        """The parts that the store holds, by number."""
        return self._iterate(self._multiparts.list_parts(ref))

    def complete_multipart(
        self, ref: MultipartRef, parts: Sequence[PartMeta], *, mode: CopyMode = "overwrite"
    ) -> PutResult:
        """Make the object of the parts named."""
        return self._loop.run(self._multiparts.complete_multipart(ref, parts, mode=mode))

    def abort_multipart(self, ref: MultipartRef) -> None:
        """Drop the multipart and its parts; one that is gone is fine."""
        self._loop.run(self._multiparts.abort_multipart(ref))

    def list_multiparts(self, prefix: str = "") -> Iterator[MultipartMeta]:
        """The unfinished multiparts whose key starts with ``prefix``."""
        return self._iterate(self._multiparts.list_multiparts(prefix))

    def _iterate(self, items: AsyncIterator[Item]) -> Iterator[Item]:
        # A generator of this object's, so that it is not forgotten meanwhile.
        yield from self._loop.iterate(items)

    @property
    def _multiparts(self) -> MultipartStore:
        if not isinstance(self._store, MultipartStore):
            msg = "this store has no multiparts"
            raise UnsupportedOperationError(msg, store=self.name)
        return self._store

    # The store itself

    def prepare(self) -> None:
        """See, before the first use, that the store can be used; and learn what it can do where that differs."""
        self._loop.run(self._store.prepare())

    def sweep(self) -> int:
        """Remove what writers that died left outside of every object and multipart."""
        return self._loop.run(self._store.sweep())

    def as_fsspec(self) -> Any:  # noqa: ANN401 - fsspec has no types
        """This store as a file system of fsspec (extra ``fsspec``). It is open as long as this store is."""
        file_system = self._store.as_fsspec(loop=self._loop.loop)
        file_system.owner = self  # which is not forgotten while somebody has the file system
        return file_system

    def close(self) -> None:
        """End the calls under way, close the store and its loop; harmless when done twice."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class BlockingResult:
    """An object that is being read: what it is, and its bytes as an iterable of chunks. As :class:`GetResult`."""

    def __init__(self, store: BlockingStore, result: GetResult) -> None:
        self.meta: ObjectMeta = result.meta
        self.attributes: Attributes = result.attributes
        self.range = result.range
        self._store = store  # which is not forgotten meanwhile
        self._result = result
        self._loop = store._loop  # noqa: SLF001 - of one kind

    def __iter__(self) -> Iterator[bytes]:
        chunks = aiter(self._result)
        while (chunk := self._loop.run(_next(chunks))) is not None:
            yield chunk

    def read(self) -> bytes:
        """All bytes of the range at once, in memory."""
        return self._loop.run(self._result.read())

    def close(self) -> None:
        """Let go of the file or connection behind it; harmless when done twice, or after the store."""
        with suppress(_ClosedError):
            self._loop.run(self._result.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _ClosedError(RuntimeError):
    pass


class _BackgroundLoop:
    """An event loop in a thread of its own, for others to wait for what they give it to do."""

    def __init__(self, on_close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.loop = asyncio.new_event_loop()
        self._process = os.getpid()
        self._end = asyncio.Event()
        self._ended: Future[None] = Future()
        self._on_close = on_close
        self._thread = threading.Thread(target=self._run, name="rindle-sync", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
                runner.run(self._live())
        except BaseException as error:  # noqa: BLE001 - it is raised where the end is waited for
            self._ended.set_exception(error)
        else:
            self._ended.set_result(None)

    async def _live(self) -> None:
        await self._end.wait()
        current = asyncio.current_task()
        others = [task for task in asyncio.all_tasks() if task is not current]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._on_close()

    def close(self) -> None:
        """Cancel what is under way, and end."""
        if self._process != os.getpid():
            return  # the thread is not here
        with suppress(RuntimeError):  # it has ended
            self.loop.call_soon_threadsafe(self._end.set)
        if self._thread is not threading.current_thread():
            self._ended.result()
            self._thread.join()

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """What the coroutine returns or raises."""
        return self._wait(self._submit(work))

    def _submit(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        problem = self._problem()
        if problem is not None:
            work.close()
            raise problem
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def _problem(self) -> RuntimeError | None:
        if self._process != os.getpid():
            return RuntimeError("the store was opened by the process that this one was forked from: open one here")
        if self._thread is threading.current_thread():
            return RuntimeError("the store is called by its own loop, which would wait for itself")
        if self._end.is_set() or self.loop.is_closed():
            return _ClosedError("the store is closed")
        return None

    def _wait(self, future: Future[Result]) -> Result:
        try:
            return future.result()
        except CancelledError:
            msg = "the store was closed while this was under way"
            raise _ClosedError(msg) from None
        except BaseException:
            future.cancel()  # if it was this thread that was interrupted
            raise

    def run_fed(
        self, source: Iterable[Any], begin: Callable[[AsyncIterator[bytes]], Coroutine[Any, Any, Result]]
    ) -> Result:
        """As :meth:`run`, of a coroutine that reads an iterable, which is iterated over in this thread meanwhile."""
        feed = _Feed(self.loop)
        future = self._submit(begin(feed))
        future.add_done_callback(lambda _: feed.requests.put(None))
        try:
            feed.serve(iter(source))
        except BaseException:
            future.cancel()
            raise
        return self._wait(future)

    def iterate(self, items: AsyncIterator[Item]) -> Iterator[Item]:
        """The same items, many of them at a time."""
        try:
            more = True
            while more:
                batch, error = self.run(_take(items))
                yield from batch
                if error is not None:
                    raise error
                more = bool(batch)
        finally:
            with suppress(_ClosedError):
                self.run(_close(items))


class _Feed(AsyncIterator[bytes]):
    """Chunks that one thread gives when a loop in another asks for them.

    An iterator may belong to its thread, and may itself read from the store that it is put into.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.requests: queue.SimpleQueue[asyncio.Future[bytes | None] | None] = queue.SimpleQueue()
        self._loop = loop

    @override
    async def __anext__(self) -> bytes:
        request: asyncio.Future[bytes | None] = self._loop.create_future()
        self.requests.put(request)
        chunk = await request
        if chunk is None:
            raise StopAsyncIteration
        return chunk

    def serve(self, source: Iterator[Any]) -> None:
        """Answer requests until there are no more. What the source raises goes to whoever reads it."""
        while (request := self.requests.get()) is not None:
            try:
                answer = _gather(source)
            except Exception as error:  # noqa: BLE001 - it is raised where the chunk is asked for
                self._loop.call_soon_threadsafe(_fail, request, error)
            else:
                self._loop.call_soon_threadsafe(_answer, request, answer)


def _gather(source: Iterator[Any]) -> bytes | None:
    """The next chunks of an iterator as one, or None at its end."""
    chunks: list[bytes] = []
    size = 0
    for chunk in source:
        chunks.append(as_bytes(chunk))
        size += len(chunks[-1])
        if size >= _FEED_SIZE:
            break
    return b"".join(chunks) if chunks else None


def _answer(request: asyncio.Future[bytes | None], chunk: bytes | None) -> None:
    if not request.done():
        request.set_result(chunk)


def _fail(request: asyncio.Future[bytes | None], error: Exception) -> None:
    if not request.done():
        request.set_exception(error)


def _is_iterable(body: object) -> TypeGuard[Iterable[Any]]:
    """Whether a body is a plain iterable, and nothing that is read in another way."""
    otherwise = isinstance(body, (Payload, bytes, bytearray, memoryview, str, os.PathLike))
    return isinstance(body, Iterable) and not otherwise and not hasattr(body, "readline")


async def _next(chunks: AsyncIterator[bytes]) -> bytes | None:
    return await anext(chunks, None)


async def _take(items: AsyncIterator[Item]) -> tuple[Sequence[Item], ObjectStoreError | None]:
    """Up to a page of items, and the error that ended them, if it was one."""
    batch: list[Item] = []
    try:
        async for item in items:
            batch.append(item)
            if len(batch) == PAGE_SIZE:
                break
    except ObjectStoreError as error:
        return batch, error
    return batch, None


async def _close(items: AsyncIterator[Item]) -> None:
    close = getattr(items, "aclose", None)
    if close is not None:
        await close()
