"""Everything that is in a bucket goes: objects with all their versions, and unfinished multiparts."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from rindle.buckets.clients import Clients
from rindle.buckets.errors import BucketNotEmptiedError
from rindle.buckets.model import Emptied
from rindle.objectstore.errors import MultipartNotFoundError, NotFoundError, UnsupportedOperationError

Progress = Callable[[Emptied], object]

_AT_ONCE = 1000  # S3's limit; not every service keeps its pages to it


class Emptying:
    """One bucket being emptied; ``progress`` is told after every page what has gone so far."""

    def __init__(self, clients: Clients, bucket: str, progress: Progress | None) -> None:
        self._clients = clients
        self._bucket = bucket
        self._progress = progress
        self.emptied = Emptied()

    async def run(self) -> None:
        """Remove all that is there now. Multiparts first, so that nothing is completed meanwhile.

        BucketNotEmptiedError when some of it could not be removed; the rest is.
        """
        await self._abort_multiparts()
        left: list[str] = []
        async for page in self._pages():
            for start in range(0, len(page), _AT_ONCE):
                objects = page[start : start + _AT_ONCE]
                failed = await self._delete(objects)
                left += failed
                self._note(objects=len(objects) - len(failed))
        if left:
            more = f"and {len(left) - 1} more" if len(left) > 1 else ""
            raise BucketNotEmptiedError(self._bucket, [*left[:1], *filter(None, (more,))])

    async def _abort_multiparts(self) -> None:
        async for page in self._clients.pages("list_multipart_uploads", self._bucket):
            for said in page.get("Uploads", ()):
                try:
                    await self._clients.call(
                        "abort_multipart_upload", self._bucket, Key=said["Key"], UploadId=said["UploadId"]
                    )
                except (MultipartNotFoundError, NotFoundError):
                    continue
                self._note(multiparts=1)

    async def _pages(self) -> AsyncIterator[Sequence[Mapping[str, str]]]:
        try:
            async for page in self._clients.pages("list_object_versions", self._bucket):
                found = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
                yield [_named(said) for said in found]
        except UnsupportedOperationError:
            async for page in self._clients.pages("list_objects_v2", self._bucket):
                yield [_named(said) for said in page.get("Contents", ())]

    async def _delete(self, objects: Sequence[Mapping[str, str]]) -> list[str]:
        answer = await self._clients.call("delete_objects", self._bucket, Delete={"Objects": objects, "Quiet": True})
        return [_explain(said) for said in answer.get("Errors", ())]

    def _note(self, *, objects: int = 0, multiparts: int = 0) -> None:
        before = self.emptied
        self.emptied = Emptied(before.objects + objects, before.multiparts + multiparts)
        if self._progress is not None:
            self._progress(self.emptied)


def _named(said: Mapping[str, Any]) -> Mapping[str, str]:
    named = {"Key": said["Key"], "VersionId": said.get("VersionId")}
    return {name: value for name, value in named.items() if value is not None}


def _explain(said: Mapping[str, str]) -> str:
    return f"{said.get('Key')!r} ({said.get('Code')}: {said.get('Message')})"
