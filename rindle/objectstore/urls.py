"""From a URL to the store that it names."""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from rindle.errors import ConfigurationError
from rindle.objectstore.base import ObjectStore


def open_store(url: str) -> ObjectStore:
    """The store that a URL names; whoever opens it closes it. Nothing is read or written yet.

    ``memory://`` ends with the process; ``file:///absolute/path`` keeps objects as files; ``s3://bucket/prefix``, with
    parameters, keeps them in a bucket. ConfigurationError says what is wrong with another one and how to mend it; it
    never repeats the URL, which might hold a password.
    """
    parts = urlsplit(url)
    opener = _OPENERS.get(parts.scheme)
    if opener is None:
        raise ConfigurationError(_unknown_scheme(url, parts.scheme))
    if parts.fragment:
        msg = f"{parts.scheme}:// takes nothing after '#'; write %23 if it belongs to the path"
        raise ConfigurationError(msg)
    return opener(parts)


def _unknown_scheme(url: str, scheme: str) -> str:
    known = ", ".join(f"{name}://" for name in _OPENERS)
    if "://" not in url:
        return f"a store is named by a URL that begins with one of {known}; for a directory write file:///path/to/it"
    nearest = get_close_matches(scheme, _OPENERS, n=1)
    hint = f"; did you mean {nearest[0]}://?" if nearest else ""
    return f"there is no store for URLs that begin with {scheme}://, but for {known}{hint}"


def _refuse_parameters(parts: SplitResult) -> None:
    names = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    if names:
        msg = f"{parts.scheme}:// takes no parameters; leave out {', '.join(names)}"
        raise ConfigurationError(msg)


def _open_memory(parts: SplitResult) -> ObjectStore:
    _refuse_parameters(parts)
    if parts.netloc or parts.path:
        msg = "there is one memory, without a name: write memory://"
        raise ConfigurationError(msg)
    from rindle.objectstore.memory import MemoryStore  # noqa: PLC0415 - a backend is loaded when it is asked for

    return MemoryStore()


def _open_file(parts: SplitResult) -> ObjectStore:
    _refuse_parameters(parts)
    path = Path(unquote(parts.path))
    if parts.netloc not in {"", "localhost"} or not path.is_absolute():
        absolute = Path.cwd() / unquote(f"{parts.netloc}{parts.path}")
        msg = f"file:// takes an absolute path after its two slashes; for the one from here write {absolute.as_uri()}"
        raise ConfigurationError(msg)
    from rindle.objectstore.local import LocalStore  # noqa: PLC0415 - a backend is loaded when it is asked for

    return LocalStore(path)


def _open_s3(parts: SplitResult) -> ObjectStore:
    try:
        from rindle.objectstore.s3 import S3Store  # noqa: PLC0415 - a backend is loaded when it is asked for
        from rindle.objectstore.s3.options import parse_url  # noqa: PLC0415 - with it
    except ModuleNotFoundError as error:
        msg = "s3:// needs the SDK: pip install 'rindle-uploads[s3]'"
        raise ConfigurationError(msg) from error
    return S3Store(parse_url(parts))


_OPENERS: Mapping[str, Callable[[SplitResult], ObjectStore]] = {
    "file": _open_file,
    "memory": _open_memory,
    "s3": _open_s3,
}
