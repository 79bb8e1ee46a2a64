"""Objects in a bucket of Google Cloud Storage.

There is no SDK for this: Google's own is not asynchronous, and no client keeps a multipart that another process can go
on with. So the HTTP APIs are spoken as they are documented, by aiohttp, with credentials of google-auth. The JSON API
is asked where it alone can do a thing (preconditions on copies, lists from a name on, changes of metadata), the XML API
where it can in one call (reading an object with its attributes) or alone (multipart uploads).

What replaces what is decided by *generations*: Google gives one to each write, and compares it when it is asked to. It
is the ``e_tag`` of an object here, and its ``version``.
"""

from rindle.objectstore.gcs.options import GCSOptions
from rindle.objectstore.gcs.store import GCSStore

__all__ = ["GCSOptions", "GCSStore"]
