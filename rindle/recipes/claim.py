"""Being the first to write under a key."""

from rindle.objectstore.base import Key, ObjectStore
from rindle.objectstore.cas import compare_and_set
from rindle.objectstore.errors import AlreadyExistsError
from rindle.objectstore.types import NO_ATTRIBUTES, Attributes, PutResult


async def try_claim(
    store: ObjectStore, key: Key, data: bytes, *, attributes: Attributes = NO_ATTRIBUTES
) -> PutResult | None:
    """Make the object if the key is free; None if somebody else has it. Of many who try at once, one makes it.

    An answer that is lost is not taken for a lost race: the object is looked at. The result is without an e_tag if the
    object was made and has been replaced since. A TransientStoreError means that it may have been made.
    UnsupportedOperationError if the store has no conditional writes.
    """
    try:
        return await compare_and_set(store, key, None, data, attributes=attributes)
    except AlreadyExistsError:
        return None
