"""Objects in memory that are asked for again only if they have changed."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

from rindle.objectstore.base import ObjectStore
from rindle.objectstore.errors import NotFoundError, NotModifiedError
from rindle.objectstore.types import Attributes, GetOptions, ObjectMeta

MAX_ENTRIES = 1000
MAX_BYTES = 64 << 20

Validator = Literal["e_tag", "last_modified"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedObject:
    """An object as the store has it now. ``hit``: its bytes did not have to be fetched."""

    data: bytes
    meta: ObjectMeta
    attributes: Attributes
    hit: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheStats:
    """Since the cache was made: reads that fetched no bytes, and reads that did. What it holds now."""

    hits: int
    misses: int
    entries: int
    size: int

    @property
    def hit_rate(self) -> float:
        """The share of reads that fetched no bytes, from 0 to 1."""
        return self.hits / (self.hits + self.misses) if self.hits else 0.0


class HttpCache:
    """What was read from a store, for one event loop.

    It gives nothing older than a read would: the store is asked every time, by ``if_none_match``, or, for
    ``"last_modified"`` and of objects without an e_tag, by ``if_modified_since``. That counts in whole seconds, so of
    two versions of one second it takes the second for the first. At most ``max_entries`` objects of ``max_bytes``
    together are kept, the last used ones; a larger object is read, not kept.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        max_entries: int = MAX_ENTRIES,
        max_bytes: int = MAX_BYTES,
        validator: Validator = "e_tag",
    ) -> None:
        self._store = store
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._validator = validator
        self._entries: OrderedDict[str, CachedObject] = OrderedDict()
        self._size = 0
        self._hits = 0
        self._misses = 0

    @property
    def stats(self) -> CacheStats:
        """How it does."""
        return CacheStats(hits=self._hits, misses=self._misses, entries=len(self._entries), size=self._size)

    async def get(self, key: str) -> CachedObject:
        """The object, all of it in memory. NotFoundError, and it is forgotten, if the store has it no more."""
        cached = self._entries.get(key)
        try:
            async with await self._store.get(key, self._options(cached)) as found:
                data = await found.read()
        except NotModifiedError:
            assert cached is not None  # noqa: S101 - else it was not asked for
            self._hits += 1
            self._keep(key, cached)
            return cached
        except NotFoundError:
            self.invalidate(key)
            raise
        self._misses += 1
        self._keep(key, CachedObject(data=data, meta=found.meta, attributes=found.attributes, hit=True))
        return CachedObject(data=data, meta=found.meta, attributes=found.attributes, hit=False)

    def invalidate(self, key: str) -> None:
        """Forget an object, if it is known."""
        cached = self._entries.pop(key, None)
        if cached is not None:
            self._size -= len(cached.data)

    def clear(self) -> None:
        """Forget all objects; the counts of hits and misses stay."""
        self._entries.clear()
        self._size = 0

    def _options(self, cached: CachedObject | None) -> GetOptions:
        if cached is None:
            return GetOptions()
        if self._validator == "e_tag" and cached.meta.e_tag is not None:
            return GetOptions(if_none_match=f'"{cached.meta.e_tag}"')
        return GetOptions(if_modified_since=cached.meta.last_modified)

    def _keep(self, key: str, cached: CachedObject) -> None:
        self.invalidate(key)
        if len(cached.data) > self._max_bytes:
            return
        self._entries[key] = cached
        self._size += len(cached.data)
        while len(self._entries) > self._max_entries or self._size > self._max_bytes:
            oldest = next(iter(self._entries))
            self.invalidate(oldest)
