"""From a URL to the store that it names."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from rindle.errors import ConfigurationError
from rindle.objectstore.base import ObjectStore

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Options = Mapping[str, Any]
Given = TypeVar("Given", bound="DataclassInstance")


def open_store(url: str, **options: Any) -> ObjectStore:  # noqa: ANN401 - each store has options of its own
    """The store that a URL names; whoever opens it closes it (``async with``). Nothing is read or written yet.

    ``memory://`` ends with the process; ``file:///absolute/path`` keeps objects as files; ``s3://bucket/prefix``,
    ``gs://bucket/prefix`` and ``az://container/prefix``, with parameters, keep them in a bucket of S3 or of Google
    Cloud Storage, or a container of Azure.

    ``options`` go before what the URL says, as values and not as text: those of :class:`S3Options`,
    :class:`GCSOptions` and :class:`AzureOptions`, ``threads`` of ``file://``, ``part_limits`` of ``memory://``.
    ConfigurationError says what is wrong and how to mend it; it never repeats the URL, which might hold a password.
    """
    parts = urlsplit(url)
    opener = _OPENERS.get(parts.scheme)
    if opener is None:
        raise ConfigurationError(_unknown_scheme(url, parts.scheme))
    if parts.fragment:
        msg = f"{parts.scheme}:// takes nothing after '#'; write %23 if it belongs to the path"
        raise ConfigurationError(msg)
    return opener(parts, options)


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


def _check_options(scheme: str, options: Options, known: Iterable[str]) -> Options:
    """The options, if the store has them."""
    names = sorted(known)
    for name in options:
        if name not in names:
            nearest = get_close_matches(name, names, n=1, cutoff=0)[0]
            msg = f"{scheme}:// takes no option {name}; did you mean {nearest}?"
            raise ConfigurationError(msg)
    return options


def _open_memory(parts: SplitResult, options: Options) -> ObjectStore:
    _refuse_parameters(parts)
    if parts.netloc or parts.path:
        msg = "there is one memory, without a name: write memory://"
        raise ConfigurationError(msg)
    from rindle.objectstore.memory import MemoryStore  # noqa: PLC0415 - a backend is loaded when it is asked for

    return MemoryStore(**_check_options("memory", options, ["part_limits"]))


def _open_file(parts: SplitResult, options: Options) -> ObjectStore:
    _refuse_parameters(parts)
    path = Path(unquote(parts.path))
    if parts.netloc not in {"", "localhost"} or not path.is_absolute():
        absolute = Path.cwd() / unquote(f"{parts.netloc}{parts.path}")
        msg = f"file:// takes an absolute path after its two slashes; for the one from here write {absolute.as_uri()}"
        raise ConfigurationError(msg)
    from rindle.objectstore.local import LocalStore  # noqa: PLC0415 - a backend is loaded when it is asked for

    return LocalStore(path, **_check_options("file", options, ["threads"]))


def _open_s3(parts: SplitResult, options: Options) -> ObjectStore:
    with _extra(parts, "s3"):
        from rindle.objectstore.s3 import S3Store  # noqa: PLC0415 - a backend is loaded when it is asked for
        from rindle.objectstore.s3.options import parse_url  # noqa: PLC0415 - with it
    return S3Store(_with(parse_url(parts), parts, options))


def _open_azure(parts: SplitResult, options: Options) -> ObjectStore:
    with _extra(parts, "azure"):
        from rindle.objectstore.azure import AzureStore  # noqa: PLC0415 - a backend is loaded when it is asked for
        from rindle.objectstore.azure.options import parse_url  # noqa: PLC0415 - with it
    return AzureStore(_with(parse_url(parts), parts, options))


def _open_gcs(parts: SplitResult, options: Options) -> ObjectStore:
    with _extra(parts, "gcs"):
        from rindle.objectstore.gcs import GCSStore  # noqa: PLC0415 - a backend is loaded when it is asked for
        from rindle.objectstore.gcs.options import parse_url  # noqa: PLC0415 - with it
    return GCSStore(_with(parse_url(parts), parts, options))


@contextmanager
def _extra(parts: SplitResult, name: str) -> Iterator[None]:
    """What is not installed with rindle itself."""
    try:
        yield
    except ModuleNotFoundError as error:
        msg = f"{parts.scheme}:// needs more than is installed: pip install 'rindle-uploads[{name}]'"
        raise ConfigurationError(msg) from error


def _with(given: Given, parts: SplitResult, options: Options) -> Given:
    """What the URL gave, with the options over it."""
    return replace(given, **_check_options(parts.scheme, options, (field.name for field in fields(given))))


_OPENERS: Mapping[str, Callable[[SplitResult, Options], ObjectStore]] = {
    "az": _open_azure,
    "file": _open_file,
    "gs": _open_gcs,
    "memory": _open_memory,
    "s3": _open_s3,
}
