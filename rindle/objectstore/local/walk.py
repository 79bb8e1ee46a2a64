"""The objects under a root in lexicographic order, found as they are asked for.

A directory sorts as its name with ``/``, since that is how the keys in it go on: ``a.txt`` comes before ``a/b`` though
the directory ``a`` has the shorter name. Only directories that can hold a wanted key are read.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

from rindle.objectstore.errors import InvalidKeyError
from rindle.objectstore.keys import validate_key
from rindle.objectstore.listing import Entry
from rindle.objectstore.local.errors import STORE
from rindle.objectstore.local.layout import OWN, Layout
from rindle.objectstore.local.objects import describe


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which keys are wanted: those that start with ``prefix`` and come after ``after``.

    ``folded``: those with a ``/`` after the prefix as one entry each, except the one that is ``done``.
    """

    prefix: str
    after: str
    folded: bool
    done: str | None

    def wants(self, name: str) -> bool:
        """Whether a key, or any key in a directory (``name`` then ends in ``/``), can be among them."""
        if not name.endswith("/"):
            return name.startswith(self.prefix) and name > self.after
        can_hold = name.startswith(self.prefix) or self.prefix.startswith(name)
        return can_hold and name != self.done and (name > self.after or self.after.startswith(name))


def walk(layout: Layout, query: Query) -> Iterator[Entry]:
    """The entries in order."""
    directory = query.prefix[: query.prefix.rfind("/") + 1]
    if directory == "" or (_is_key(layout, directory[:-1]) and not _through_symlink(layout.root, directory[:-1])):
        yield from _walk(layout, directory, query)


def _is_key(layout: Layout, text: str) -> bool:
    """A file that somebody put here by hand may have a name that is none; it could not be read either."""
    try:
        layout.object(validate_key(text, store=STORE))
    except InvalidKeyError:
        return False
    return True


def _through_symlink(root: Path, directory: str) -> bool:
    path = root / directory
    return any(step.is_symlink() for step in (path, *path.parents[: directory.count("/")]))


def _walk(layout: Layout, directory: str, query: Query) -> Iterator[Entry]:
    for name, found in _children(layout.root / directory, directory, query):
        if not name.endswith("/"):
            yield from _object(layout, name, found)
        elif query.folded and name.startswith(query.prefix):
            if any(True for _ in _walk(layout, name, query)):  # the first will do; a directory may be empty
                yield Entry(name)
        else:
            yield from _walk(layout, name, query)


def _children(path: Path, directory: str, query: Query) -> Sequence[tuple[str, os.DirEntry[str]]]:
    try:
        with os.scandir(path) as found:
            named = [(directory + _name(entry), entry) for entry in found if directory or entry.name != OWN]
    except (FileNotFoundError, NotADirectoryError):
        return ()
    return sorted(((name, entry) for name, entry in named if query.wants(name)), key=itemgetter(0))


def _name(entry: os.DirEntry[str]) -> str:
    return f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name


def _object(layout: Layout, key: str, found: os.DirEntry[str]) -> Iterator[Entry]:
    if found.is_file(follow_symlinks=False) and _is_key(layout, key):
        try:
            status = found.stat(follow_symlinks=False)
        except FileNotFoundError:
            return  # deleted since the directory was read
        yield Entry(key, describe(key, status))
