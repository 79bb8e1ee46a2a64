"""A store as a file system of fsspec: what pandas, pyarrow, zarr, dask and their like read and write.

Names are keys. There are directories where keys have one as their beginning, and no others: to make one does nothing.
"""

import asyncio
import io
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

from fsspec.asyn import AsyncFileSystem, sync, sync_wrapper
from fsspec.callbacks import DEFAULT_CALLBACK
from fsspec.spec import AbstractBufferedFile
from typing_extensions import override

from rindle.objectstore.base import PART_SIZE, MultipartStore, ObjectStore
from rindle.objectstore.errors import (
    InvalidKeyError,
    InvalidRangeError,
    NotFoundError,
    UnsupportedOperationError,
)
from rindle.objectstore.ext import NEAR, download, get_ranges, read
from rindle.objectstore.types import (
    NO_ATTRIBUTES,
    Attributes,
    ByteRange,
    CopyMode,
    GetOptions,
    MultipartOptions,
    MultipartRef,
    ObjectMeta,
    PartMeta,
    PutOptions,
    SuffixRange,
)

Info = dict[str, Any]
"""``name``, ``type``, ``size``; of a file also ``last_modified``, ``e_tag`` and ``version``."""


def open_file_system(
    store: ObjectStore, *, asynchronous: bool, loop: asyncio.AbstractEventLoop | None
) -> "StoreFileSystem":
    """See :meth:`ObjectStore.as_fsspec`."""
    if loop is None:
        with suppress(RuntimeError):
            loop = asyncio.get_running_loop()
    return StoreFileSystem(store, asynchronous=asynchronous, loop=loop)


class StoreFileSystem(AsyncFileSystem):  # type: ignore[misc]  # fsspec has no types
    """The file system of one store. Files that are written are there when they are closed, whole, or not at all.

    What writes takes a ``mode``, ``"overwrite"`` or ``"create"`` (FileExistsError), and the object's ``attributes``.
    """

    protocol = "rindle"
    root_marker = ""
    cachable = False

    def __init__(self, store: ObjectStore, **options: Any) -> None:
        super().__init__(**options)
        self.store = store

    @classmethod
    @override
    def _strip_protocol(cls, path: Any) -> Any:
        stripped = super()._strip_protocol(path)
        return stripped.lstrip("/") if isinstance(stripped, str) else stripped

    # Looking

    @override
    async def _info(self, path: str, **_options: Any) -> Info:
        key = self._strip_protocol(path)
        if key == "":
            return _directory(key)
        with suppress(NotFoundError, InvalidKeyError):
            return _file(await self.store.head(key))
        if await self._has_children(key):
            return _directory(key)
        raise _absent(path)

    async def _has_children(self, key: str) -> bool:
        page = await self.store.list_page(_below(key), limit=1)
        return bool(page.objects)

    @override
    async def _ls(self, path: str, detail: bool = True, **_options: Any) -> Sequence[Any]:
        key = self._strip_protocol(path)
        page = await self.store.list_with_delimiter(_below(key))
        found = [*map(_file, page.objects), *(_directory(prefix.rstrip("/")) for prefix in page.prefixes)]
        if not found and key:
            found = [await self._info(path)]
        found.sort(key=lambda info: info["name"])
        return found if detail else [info["name"] for info in found]

    @override
    async def _find(
        self, path: str, maxdepth: int | None = None, withdirs: bool = False, detail: bool = False, **options: Any
    ) -> Any:
        if maxdepth is not None:
            return await super()._find(path, maxdepth=maxdepth, withdirs=withdirs, detail=detail, **options)
        key = self._strip_protocol(path)
        found = {meta.key: _file(meta) async for meta in self.store.list(_below(key))}
        if not found and key:
            with suppress(NotFoundError):
                found = {key: _file(await self.store.head(key))}
        elif withdirs:
            parents = {parent for name in found for parent in _directories(name)}
            found |= {name: _directory(name) for name in parents if f"{name}/".startswith(_below(key))}
        names = sorted(found)
        return {name: found[name] for name in names} if detail else names

    @override
    def modified(self, path: str) -> datetime:
        """When the file was last written."""
        modified: datetime = self.info(path)["last_modified"]
        return modified

    @override
    def ukey(self, path: str) -> str:
        """What changes when the file does."""
        return str(self.info(path)["e_tag"])

    # Reading

    @override
    async def _cat_file(
        self, path: str, start: int | None = None, end: int | None = None, if_match: str | None = None, **_options: Any
    ) -> bytes:
        key = self._strip_protocol(path)
        if (start is not None and start < 0 and end is not None) or (end is not None and end < 0):
            size = (await self.store.head(key)).size
            start, end, _ = slice(start, end).indices(size)
        try:
            wanted = _range(start, end)
        except ValueError:
            return b""  # as slices are, and not as ranges are
        try:
            return await read(self.store, key, GetOptions(range=wanted, if_match=if_match))
        except InvalidRangeError:
            return b""

    @override
    async def _cat_ranges(
        self,
        paths: list[str],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        batch_size: int | None = None,
        on_error: str = "return",
        **options: Any,
    ) -> list[Any]:
        """Ranges of one file that are at most ``max_gap`` apart (1 MiB) are one request."""
        limits = list(zip(paths, _each(starts, paths), _each(ends, paths), strict=True))
        results: list[Any] = [None] * len(limits)
        plain: defaultdict[str, list[tuple[int, ByteRange]]] = defaultdict(list)
        others: list[int] = []
        for number, (path, start, end) in enumerate(limits):
            if isinstance(start, int) and isinstance(end, int) and 0 <= start < end:
                plain[path].append((number, ByteRange(start, end)))
            else:
                others.append(number)
        for path, wanted in plain.items():
            try:
                ranges = [span for _, span in wanted]
                near = NEAR if max_gap is None else max_gap
                found = await get_ranges(self.store, self._strip_protocol(path), ranges, near=near)
            except Exception:  # noqa: BLE001 - each by itself says which of them it was
                others += [number for number, _ in wanted]
            else:
                for (number, _), data in zip(wanted, found, strict=True):
                    results[number] = data
        one_by_one = await super()._cat_ranges(
            *([limits[number][field] for number in others] for field in range(3)),
            batch_size=batch_size,
            on_error=on_error,
            **options,
        )
        for number, data in zip(others, one_by_one, strict=True):
            results[number] = data
        return results

    @override
    async def _get_file(self, rpath: str, lpath: str, callback: Any = DEFAULT_CALLBACK, **_options: Any) -> None:
        target = Path(lpath)
        if await asyncio.to_thread(target.is_dir):
            return
        meta = await download(self.store, self._strip_protocol(rpath), target)
        callback.set_size(meta.size)
        callback.relative_update(meta.size)

    # Writing

    @override
    async def _pipe_file(
        self,
        path: str,
        value: bytes,
        mode: CopyMode = "overwrite",
        attributes: Attributes = NO_ATTRIBUTES,
        **_options: Any,
    ) -> None:
        await self.store.put(self._strip_protocol(path), value, PutOptions(mode=mode, attributes=attributes))

    @override
    async def _put_file(
        self,
        lpath: str,
        rpath: str,
        mode: CopyMode = "overwrite",
        attributes: Attributes = NO_ATTRIBUTES,
        callback: Any = DEFAULT_CALLBACK,
        **_options: Any,
    ) -> None:
        source = Path(lpath)
        status = await asyncio.to_thread(source.stat)
        callback.set_size(status.st_size)
        await self.store.put(self._strip_protocol(rpath), source, PutOptions(mode=mode, attributes=attributes))
        callback.relative_update(status.st_size)

    @override
    async def _cp_file(self, path1: str, path2: str, mode: CopyMode = "overwrite", **_options: Any) -> None:
        source = self._strip_protocol(path1)
        try:
            await self.store.copy(source, self._strip_protocol(path2), mode=mode)
        except NotFoundError:
            if not await self._has_children(source):
                raise

    @override
    async def _rm_file(self, path: str, **_options: Any) -> None:
        await self._rm(path)

    @override
    async def _rm(
        self,
        path: str | list[str],
        recursive: bool = False,
        batch_size: int | None = None,
        maxdepth: int | None = None,
        **_options: Any,
    ) -> None:
        paths = await self._expand_path(path, recursive=recursive, maxdepth=maxdepth)
        if not recursive:
            for each in paths:
                if (await self._info(each))["type"] == "directory":
                    msg = f"a directory is removed with recursive=True: {each}"
                    raise IsADirectoryError(msg)
        for result in await self.store.delete_many([each for each in paths if each]):
            if result.error is not None:
                raise result.error

    async def _sign(self, path: str, expiration: int = 100, **_options: Any) -> str:
        return await self.store.sign_url("GET", self._strip_protocol(path), timedelta(seconds=expiration))

    sign = sync_wrapper(_sign)

    # Files

    @override
    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> "StoreFile":
        if mode == "xb" and self.exists(path):
            msg = f"the file is there: {path}"
            raise FileExistsError(msg)
        return StoreFile(
            self, path, mode, block_size=block_size, autocommit=autocommit, cache_options=cache_options, **options
        )


class StoreFile(AbstractBufferedFile):  # type: ignore[misc]  # fsspec has no types
    """A file of the store, opened to be read or written; nothing is appended to what is there.

    What is read is of one version of the object: PreconditionFailedError if it is replaced meanwhile. What is written
    goes in parts of ``block_size``, and is there when the file is closed. If a ``with`` block ends with an error, or
    the file is forgotten, nothing is.
    """

    def __init__(
        self, fs: StoreFileSystem, path: str, mode: str = "rb", block_size: int | None = None, **options: Any
    ) -> None:
        if mode == "ab":
            msg = "nothing can be appended to an object: read it, and write it whole"
            raise UnsupportedOperationError(msg, store=fs.store.name, key=path)
        self.buffer: io.BytesIO
        self._store = fs.store
        self._ref: MultipartRef | None = None
        self._parts: list[PartMeta] = []
        self._whole: bytes | None = None
        self._attributes: Attributes = options.pop("attributes", NO_ATTRIBUTES)
        if mode != "rb":
            block_size = _part_size(fs.store, block_size)
        super().__init__(fs, path, mode, block_size=block_size, **options)

    @override
    def _fetch_range(self, start: int, end: int) -> bytes:
        data: bytes = self.fs.cat_file(self.path, start=start, end=end, if_match=self.details["e_tag"])
        return data

    @override
    def _upload_chunk(self, final: bool = False) -> bool:
        """Put full parts, and keep the rest; of the last chunk put all."""
        data = self.buffer.getbuffer()
        if final and self._ref is None:
            self._whole = bytes(data)
        else:
            size = self.blocksize
            end = len(data) if final else len(data) // size * size
            for start in range(0, end, size):
                self._put_part(bytes(data[start : min(start + size, end)]))
            self.offset += end
            rest = bytes(data[end:])
            data.release()
            self.buffer = io.BytesIO()
            self.buffer.write(rest)
        if final and self.autocommit:
            self.commit()
        return False

    def _put_part(self, part: bytes) -> None:
        if not isinstance(self._store, MultipartStore):
            msg = f"this store has no multiparts, and the file is longer than {self.blocksize} bytes"
            raise UnsupportedOperationError(msg, store=self._store.name, key=self.path)
        if self._ref is None:
            options = MultipartOptions(part_size=self.blocksize, attributes=self._attributes)
            self._ref = self._run(self._store.create_multipart, self.path, options)
        self._parts.append(self._run(self._store.put_part, self._ref, len(self._parts) + 1, part))

    def _run(self, method: Any, *args: Any, **options: Any) -> Any:
        return sync(self.fs.loop, method, *args, **options)

    @override
    def commit(self) -> None:
        """Make the object of what was written; called when the file is closed, or by a transaction when that ends."""
        mode: CopyMode = "create" if self.mode == "xb" else "overwrite"
        try:
            if self._ref is None:
                options = PutOptions(mode=mode, attributes=self._attributes)
                self._run(self._store.put, self.path, self._whole, options)
            elif isinstance(self._store, MultipartStore):
                self._run(self._store.complete_multipart, self._ref, self._parts, mode=mode)
        except BaseException:
            self.discard()
            raise

    @override
    def discard(self) -> None:
        """Drop what was written."""
        ref, self._ref = self._ref, None
        self.closed = True
        if ref is not None and isinstance(self._store, MultipartStore):
            self._run(self._store.abort_multipart, ref)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and self.writable():
            self.discard()
        else:
            self.close()

    def __del__(self) -> None:
        ref = getattr(self, "_ref", None)
        if not self.closed and ref is not None and isinstance(self._store, MultipartStore):
            # Whoever collects garbage must not wait.
            with suppress(RuntimeError):
                asyncio.run_coroutine_threadsafe(self._store.abort_multipart(ref), self.fs.loop)
        self.closed = True


def _part_size(store: ObjectStore, wanted: int | None) -> int:
    size = wanted or PART_SIZE
    if isinstance(store, MultipartStore):
        size = min(max(size, store.part_limits.min_size), store.part_limits.max_size)
    return size


def _file(meta: ObjectMeta) -> Info:
    return {
        "name": meta.key,
        "type": "file",
        "size": meta.size,
        "last_modified": meta.last_modified,
        "e_tag": meta.e_tag,
        "version": meta.version,
    }


def _directory(name: str) -> Info:
    return {"name": name, "type": "directory", "size": 0}


def _directories(name: str) -> Iterator[str]:
    """The directories that a file lies in."""
    while "/" in name:
        name = name.rpartition("/")[0]
        yield name


def _below(key: str) -> str:
    return f"{key}/" if key else ""


def _absent(path: str) -> FileNotFoundError:
    return FileNotFoundError(2, "there is no such file or directory", path)


def _range(start: int | None, end: int | None) -> ByteRange | SuffixRange | None:
    """What a slice asks for; ValueError if that is nothing."""
    if start is not None and start < 0:
        return SuffixRange(-start)
    return None if start is None and end is None else ByteRange(start or 0, end)


def _each(values: Any, paths: Sequence[str]) -> Iterable[Any]:
    return values if isinstance(values, Iterable) else [values] * len(paths)
