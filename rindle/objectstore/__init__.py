"""A general object-store abstraction; it knows no upload, no server and no SQL.

::

    from rindle.objectstore import NotFoundError, PutOptions, open_store

    async with open_store("file:///var/lib/objects") as store:
        await store.put("greeting", b"hello", PutOptions(mode="create"))

Everything that users of stores need can be imported from here.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rindle.objectstore.errors import (
    AlreadyExistsError,
    IntegrityError,
    InvalidKeyError,
    InvalidPartError,
    InvalidRangeError,
    MultipartNotFoundError,
    NotFoundError,
    NotModifiedError,
    ObjectStoreError,
    PermissionDeniedError,
    PreconditionFailedError,
    StoreFullError,
    StoreTimeoutError,
    StoreUnavailableError,
    ThrottledError,
    TransientStoreError,
    UnauthenticatedError,
    UnsupportedOperationError,
)
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
    PartLimits,
    PartMeta,
    PutMode,
    PutOptions,
    PutResult,
    SuffixRange,
    UpdateVersion,
)

if TYPE_CHECKING:
    from rindle.objectstore.base import GetResult, Key, MultipartStore, ObjectStore, SignedMethod
    from rindle.objectstore.bodies import Body
    from rindle.objectstore.ext import (
        copy_in_parts,
        download,
        exists,
        get_ranges,
        put_stream,
        read,
        rename,
        rename_if_not_exists,
    )
    from rindle.objectstore.local import LocalStore
    from rindle.objectstore.memory import MemoryStore
    from rindle.objectstore.payload import BytesPayload, FilePayload, JoinedPayload, Payload
    from rindle.objectstore.s3 import S3Options, S3Store
    from rindle.objectstore.urls import open_store

__all__ = [
    "AlreadyExistsError",
    "Attributes",
    "Body",
    "ByteRange",
    "BytesPayload",
    "Capabilities",
    "CopyMode",
    "DeleteResult",
    "FilePayload",
    "GetOptions",
    "GetResult",
    "IntegrityError",
    "InvalidKeyError",
    "InvalidPartError",
    "InvalidRangeError",
    "JoinedPayload",
    "Key",
    "ListPage",
    "LocalStore",
    "MemoryStore",
    "MultipartMeta",
    "MultipartNotFoundError",
    "MultipartOptions",
    "MultipartRef",
    "MultipartStore",
    "NotFoundError",
    "NotModifiedError",
    "ObjectMeta",
    "ObjectStore",
    "ObjectStoreError",
    "PartLimits",
    "PartMeta",
    "Payload",
    "PermissionDeniedError",
    "PreconditionFailedError",
    "PutMode",
    "PutOptions",
    "PutResult",
    "S3Options",
    "S3Store",
    "SignedMethod",
    "StoreFullError",
    "StoreTimeoutError",
    "StoreUnavailableError",
    "SuffixRange",
    "ThrottledError",
    "TransientStoreError",
    "UnauthenticatedError",
    "UnsupportedOperationError",
    "UpdateVersion",
    "copy_in_parts",
    "download",
    "exists",
    "get_ranges",
    "open_store",
    "put_stream",
    "read",
    "rename",
    "rename_if_not_exists",
]

# Loaded when they are asked for: not every program that knows their values reads and writes, or has every SDK.
_HOMES = {
    "Body": "bodies",
    "BytesPayload": "payload",
    "FilePayload": "payload",
    "GetResult": "base",
    "JoinedPayload": "payload",
    "Key": "base",
    "LocalStore": "local",
    "MemoryStore": "memory",
    "MultipartStore": "base",
    "ObjectStore": "base",
    "Payload": "payload",
    "S3Options": "s3",
    "S3Store": "s3",
    "SignedMethod": "base",
    "copy_in_parts": "ext",
    "download": "ext",
    "exists": "ext",
    "get_ranges": "ext",
    "open_store": "urls",
    "put_stream": "ext",
    "read": "ext",
    "rename": "ext",
    "rename_if_not_exists": "ext",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module's attribute
    home = _HOMES.get(name)
    if home is None:
        msg = f"module 'rindle.objectstore' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"rindle.objectstore.{home}"), name)
