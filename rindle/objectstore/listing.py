"""Pages of a listing, cut from entries that come in order.

Python compares text by code point, which is the order of the UTF-8 bytes: sorted text is lexicographic as promised.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, islice

from rindle.objectstore.types import ListPage, ObjectMeta


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a listing: an object, or (``meta`` is None) the common prefix of several."""

    name: str
    meta: ObjectMeta | None = None


def fold(metas: Iterable[ObjectMeta], prefix: str) -> Iterator[Entry]:
    """Sorted objects, with those that share a ``/`` after the prefix folded into one entry."""
    for name, group in groupby(metas, key=lambda meta: folded_name(meta.key, prefix)):
        yield Entry(name) if name.endswith("/") else Entry(name, next(group))


def folded_name(key: str, prefix: str) -> str:
    """The key itself, or its beginning up to the first ``/`` after the prefix."""
    end = key.find("/", len(prefix))
    return key if end < 0 else key[: end + 1]


def cut_page(entries: Iterator[Entry], limit: int) -> ListPage:
    """The first entries; the token is the name of the last one, if there is anything after it."""
    page = list(islice(entries, limit))
    more = next(entries, None) is not None
    return ListPage(
        objects=tuple(entry.meta for entry in page if entry.meta is not None),
        prefixes=tuple(entry.name for entry in page if entry.meta is None),
        next_token=page[-1].name if more else None,
    )
