"""A store that can be given to those who must not write."""

from dataclasses import replace
from typing import overload

from typing_extensions import override

from rindle.errors import ConfigurationError
from rindle.objectstore.base import MultipartStore, ObjectStore
from rindle.objectstore.errors import ObjectStoreError
from rindle.objectstore.types import Capabilities
from rindle.objectstore.wrappers.base import MultipartWrapper, Wrapper


@overload
def read_only(store: MultipartStore) -> MultipartStore: ...
@overload
def read_only(store: ObjectStore) -> ObjectStore: ...
def read_only(store: ObjectStore) -> ObjectStore:
    """The same store, which refuses whatever changes it, before any I/O: UnsupportedOperationError.

    Signed URLs are given out for GET and HEAD only. :meth:`~ObjectStore.prepare` tries to list and nothing else, so
    that credentials that may not write are enough; nothing is swept.
    """
    return _ReadOnlyMultiparts(store) if isinstance(store, MultipartStore) else _ReadOnly(store)


class _ReadOnly(Wrapper):
    @override
    def _declare(self, capabilities: Capabilities) -> Capabilities:
        return replace(
            capabilities,
            write=False,
            put_create=False,
            put_update=False,
            copy_create=False,
            complete_create=False,
            copy_part=False,
        )

    @override
    async def prepare(self) -> None:
        try:
            await self.inner.list_page(limit=1)
        except ObjectStoreError as error:
            msg = f"the store cannot be read: {error}"
            raise ConfigurationError(msg) from error

    @override
    async def sweep(self) -> int:
        return 0


class _ReadOnlyMultiparts(_ReadOnly, MultipartWrapper):
    pass
