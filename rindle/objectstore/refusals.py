"""What all stores say in the same words, whatever made them say it."""

from collections.abc import Iterator
from contextlib import contextmanager

from rindle.objectstore.errors import (
    AlreadyExistsError,
    MultipartNotFoundError,
    NotFoundError,
    PreconditionFailedError,
    StoreUnavailableError,
)
from rindle.objectstore.result import GetResult
from rindle.objectstore.types import MultipartRef


def no_object(key: str, *, store: str) -> NotFoundError:
    """Nothing stands under the key."""
    return NotFoundError("no such object", store=store, key=key)


def no_multipart(ref: MultipartRef, *, store: str) -> MultipartNotFoundError:
    """It was never begun, or has been completed or aborted."""
    return MultipartNotFoundError("no such multipart", store=store, key=ref.key)


def taken(key: str, *, store: str) -> AlreadyExistsError:
    """Of a write that only creates."""
    return AlreadyExistsError("the key is taken", store=store, key=key)


def not_that_version(key: str, *, store: str) -> PreconditionFailedError:
    """Of a write that replaces one version only."""
    return PreconditionFailedError("the object is not the version to be replaced", store=store, key=key)


def replaced_meanwhile(source: str, *, store: str) -> StoreUnavailableError:
    """Of a copy that would have been of two versions; it can be tried again."""
    return StoreUnavailableError("the source was replaced while it was copied", store=store, key=source)


def check_length(length: int, result: GetResult, *, store: str) -> None:
    """StoreUnavailableError if a service gives another number of bytes than the range that was asked for has."""
    start, end = result.range
    if length != end - start:
        msg = "the service gave other bytes than the range that was asked for"
        raise StoreUnavailableError(msg, store=store, key=result.meta.key)


@contextmanager
def in_multipart(ref: MultipartRef, *, store: str) -> Iterator[None]:
    """Take what a service says of a multipart that is gone, that there is no such object, for what it means."""
    try:
        yield
    except NotFoundError as error:
        raise no_multipart(ref, store=store) from error
