"""Multiparts that no upload owns any more: their attempt died unseen, or their record is gone."""

from collections.abc import AsyncGenerator, Sequence
from datetime import timedelta

from rindle.clock import utc_now
from rindle.objectstore.base import MultipartStore
from rindle.objectstore.types import MultipartMeta
from rindle.uploads.keys import upload_of
from rindle.uploads.model import UploadState
from rindle.uploads.ports import UploadRepository

_PAGE = 1000
_ENDED = frozenset({UploadState.COMPLETE, UploadState.ABORTED, UploadState.FAILED})


async def find_strays(
    store: MultipartStore, repository: UploadRepository, key_root: str, *, grace: timedelta
) -> AsyncGenerator[MultipartMeta, None]:
    """Multiparts that may be aborted: begun longer than ``grace`` ago, under a key that only an upload gets.

    That is, of an upload which has ended or is not known. Whatever has another kind of key is somebody else's.
    """
    if not store.capabilities.list_multiparts:
        return
    before = utc_now() - grace
    page: list[MultipartMeta] = []
    async for multipart in store.list_multiparts(f"{key_root}/" if key_root else ""):
        if multipart.initiated_at <= before and upload_of(key_root, multipart.ref.key) is not None:
            page.append(multipart)
        if len(page) == _PAGE:
            for stray in await _without_owner(page, repository, key_root):
                yield stray
            page = []
    for stray in await _without_owner(page, repository, key_root):
        yield stray


async def _without_owner(
    page: Sequence[MultipartMeta], repository: UploadRepository, key_root: str
) -> Sequence[MultipartMeta]:
    owners = [upload_of(key_root, multipart.ref.key) or "" for multipart in page]
    states = await repository.find_states(set(owners))
    return [
        multipart
        for multipart, owner in zip(page, owners, strict=True)
        if states.get(owner) is None or states[owner] in _ENDED
    ]
