"""Objects in a bucket of S3, or of a service that speaks S3's API."""

from rindle.objectstore.s3.options import S3Options
from rindle.objectstore.s3.store import S3Store

__all__ = ["S3Options", "S3Store"]
