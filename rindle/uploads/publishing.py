"""From the key of one attempt to the key that an object was to have.

Objects are made under keys that belong to one attempt, where nothing late or twice can do harm. The key that people
know is given by a copy inside the store, which may be made again. It does not replace what stands there, unless the
operator asked for that.
"""

from dataclasses import replace

from rindle.objectstore.errors import AlreadyExistsError
from rindle.objectstore.types import CopyMode
from rindle.uploads.model import Upload
from rindle.uploads.storage import Storage


async def publish(storage: Storage, row: Upload) -> Upload:
    """Copy the object of an upload, whose lease the caller holds, to its target.

    The row returned, to be committed, names the copy; what it was made from is litter then. AlreadyExistsError:
    another object has the target. It may be done again after any error.
    """
    assert row.key is not None  # noqa: S101 - the object stands
    assert row.target is not None  # noqa: S101 - there is where to publish it
    # A key with this upload's id in it is nobody else's.
    mode: CopyMode = "overwrite" if storage.overwrite or row.id in row.target else "create"
    try:
        e_tag = (await storage.store.copy(row.key, row.target, mode=mode)).e_tag
    except AlreadyExistsError:
        found = await storage.find_object(row, row.target)
        if found is None:
            raise
        e_tag = found.e_tag  # an earlier attempt made it
    return replace(row, key=row.target, e_tag=e_tag, multipart=None, untidy=True)


async def withdraw(storage: Storage, row: Upload) -> None:
    """Remove what was published of an upload that ends, if it is still that object. Idempotent."""
    if row.key is not None and row.key == row.target:
        found = await storage.find_object(row, row.key)
        if found is not None and found.e_tag == row.e_tag:
            await storage.store.delete(row.key)
