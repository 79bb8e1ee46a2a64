"""A part of a store that looks like a whole one."""

from dataclasses import replace
from typing import TypeVar, overload

from typing_extensions import override

from rindle.objectstore.base import MultipartStore, ObjectStore
from rindle.objectstore.errors import ObjectStoreError
from rindle.objectstore.keys import validate_key
from rindle.objectstore.types import ListPage, MultipartRef, ObjectMeta
from rindle.objectstore.wrappers.base import Call, MultipartWrapper, Operation, Wrapper

Result = TypeVar("Result")


@overload
def prefixed(store: MultipartStore, prefix: str) -> MultipartStore: ...
@overload
def prefixed(store: ObjectStore, prefix: str) -> ObjectStore: ...
def prefixed(store: ObjectStore, prefix: str) -> ObjectStore:
    """The objects of a store whose keys begin with ``prefix/``, under what their keys have after that.

    InvalidKeyError if the prefix could not be a key. A key may be as long as the store's own with the prefix before it.
    A multipart's handle is good for this prefix only.
    """
    kind = _PrefixedMultiparts if isinstance(store, MultipartStore) else _Prefixed
    return kind(store, validate_key(prefix, store=store.name) + "/")


class _Prefixed(Wrapper):
    def __init__(self, inner: ObjectStore, root: str) -> None:
        super().__init__(inner)
        self._root = root

    @override
    async def _call(self, operation: Operation, key: str, call: Call[Result], *, sent: int = 0) -> Result:
        try:
            return await call()
        except ObjectStoreError as error:
            # The message is for logs, and has the whole name; the key is what the caller asked for.
            if error.key is not None:
                error.key = error.key.removeprefix(self._root)
            raise

    @override
    def _inward(self, key: str) -> str:
        return self._root + key

    @override
    def _outward(self, meta: ObjectMeta) -> ObjectMeta:
        return replace(meta, key=meta.key.removeprefix(self._root))

    @override
    def _outward_page(self, page: ListPage) -> ListPage:
        return ListPage(
            objects=tuple(map(self._outward, page.objects)),
            prefixes=tuple(prefix.removeprefix(self._root) for prefix in page.prefixes),
            next_token=page.next_token,
        )


class _PrefixedMultiparts(_Prefixed, MultipartWrapper):
    @override
    def _outward_ref(self, ref: MultipartRef) -> MultipartRef:
        return MultipartRef(ref.key.removeprefix(self._root), ref.multipart_id)
