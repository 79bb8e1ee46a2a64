"""What every object store must do, as suites that a backend or a wrapper runs by subclassing them."""

from rindle.testing.objectstore.multiparts import MultipartStoreContract
from rindle.testing.objectstore.objects import ObjectStoreContract

__all__ = ["MultipartStoreContract", "ObjectStoreContract"]
