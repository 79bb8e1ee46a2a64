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
    from rindle.objectstore.azure import AzureOptions, AzureStore
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
    from rindle.objectstore.gcs import GCSOptions, GCSStore
    from rindle.objectstore.local import LocalStore
    from rindle.objectstore.memory import MemoryStore
    from rindle.objectstore.payload import BytesPayload, FilePayload, JoinedPayload, Payload
    from rindle.objectstore.s3 import S3Options, S3Store
    from rindle.objectstore.urls import open_store
    from rindle.objectstore.wrappers import (
        Meter,
        OperationStats,
        RetryBudget,
        StoreCall,
        StoreStats,
        limited,
        metered,
        prefixed,
        read_only,
        retrying,
    )

__all__ = [
    "AlreadyExistsError",
    "Attributes",
    "AzureOptions",
    "AzureStore",
    "Body",
    "ByteRange",
    "BytesPayload",
    "Capabilities",
    "CopyMode",
    "DeleteResult",
    "FilePayload",
    "GCSOptions",
    "GCSStore",
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
    "Meter",
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
    "OperationStats",
    "PartLimits",
    "PartMeta",
    "Payload",
    "PermissionDeniedError",
    "PreconditionFailedError",
    "PutMode",
    "PutOptions",
    "PutResult",
    "RetryBudget",
    "S3Options",
    "S3Store",
    "SignedMethod",
    "StoreCall",
    "StoreFullError",
    "StoreStats",
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
    "limited",
    "metered",
    "open_store",
    "prefixed",
    "put_stream",
    "read",
    "read_only",
    "rename",
    "rename_if_not_exists",
    "retrying",
]

# Loaded when they are asked for: not every program that knows their values reads and writes, or has every SDK.
_HOMES = {
    "AzureOptions": "azure",
    "AzureStore": "azure",
    "Body": "bodies",
    "BytesPayload": "payload",
    "FilePayload": "payload",
    "GCSOptions": "gcs",
    "GCSStore": "gcs",
    "GetResult": "base",
    "JoinedPayload": "payload",
    "Key": "base",
    "LocalStore": "local",
    "MemoryStore": "memory",
    "Meter": "wrappers",
    "MultipartStore": "base",
    "ObjectStore": "base",
    "OperationStats": "wrappers",
    "Payload": "payload",
    "RetryBudget": "wrappers",
    "S3Options": "s3",
    "S3Store": "s3",
    "SignedMethod": "base",
    "StoreCall": "wrappers",
    "StoreStats": "wrappers",
    "copy_in_parts": "ext",
    "download": "ext",
    "exists": "ext",
    "get_ranges": "ext",
    "limited": "wrappers",
    "metered": "wrappers",
    "open_store": "urls",
    "prefixed": "wrappers",
    "put_stream": "ext",
    "read": "ext",
    "read_only": "wrappers",
    "rename": "ext",
    "rename_if_not_exists": "ext",
    "retrying": "wrappers",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module's attribute
    home = _HOMES.get(name)
    if home is None:
        msg = f"module 'rindle.objectstore' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"rindle.objectstore.{home}"), name)
