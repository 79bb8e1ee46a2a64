"""What may go wrong with buckets and the credentials for them.

::

    BucketError
    ├── InvalidBucketNameError (ValueError)    no bucket can have this name
    ├── InvalidScopeError (ValueError)         credentials that no policy can say
    ├── BucketExistsError                      it is there already, and one's own
    ├── BucketTakenError                       the name is somebody else's
    ├── BucketNotFoundError
    ├── BucketNotEmptyError                    and nobody said that what is in it may go
    ├── PolicyNotFoundError
    ├── AccessKeyNotFoundError
    └── LeftoversError                         stopped midway; ``left`` names what is still there
        ├── CredentialsNotMadeError            and what was made before was to be removed again
        ├── CredentialsNotRevokedError         the key is gone, what belongs to it not
        └── BucketNotEmptiedError

What any call to a service may meet (no permission, unknown keys, no answer) is an
:class:`~rindle.objectstore.errors.ObjectStoreError`, as it is for objects.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar

from botocore.exceptions import ClientError
from typing_extensions import override

from rindle.errors import RindleError
from rindle.objectstore.errors import (
    ObjectStoreError,
    PermissionDeniedError,
    StoreUnavailableError,
    TransientStoreError,
    UnauthenticatedError,
)
from rindle.objectstore.s3.errors import code_of
from rindle.objectstore.s3.errors import translated as translated_by_store


class BucketError(RindleError):
    """Something about a bucket, or credentials for it."""

    code = "bucket_error"
    log_level: ClassVar[int] = logging.WARNING


class InvalidBucketNameError(BucketError, ValueError):
    """The name breaks S3's rules; nothing was asked of the service."""

    code = "invalid_bucket_name"


class InvalidScopeError(BucketError, ValueError):
    """What the credentials should be for cannot be said in a policy; nothing was asked of the service."""

    code = "invalid_scope"


class BucketExistsError(BucketError):
    """The bucket is there already, and belongs to the one who asks; nothing was changed."""

    code = "bucket_exists"


class BucketTakenError(BucketError):
    """Somebody else has a bucket of this name."""

    code = "bucket_taken"


class BucketNotFoundError(BucketError):
    """There is no such bucket."""

    code = "bucket_not_found"


class BucketNotEmptyError(BucketError):
    """The bucket has objects, versions of them or unfinished multiparts; nothing was changed."""

    code = "bucket_not_empty"


class PolicyNotFoundError(BucketError):
    """There is no such policy."""

    code = "policy_not_found"


class AccessKeyNotFoundError(BucketError):
    """No such key was made for the bucket; nothing was changed."""

    code = "access_key_not_found"


class LeftoversError(BucketError):
    """Something was stopped midway. ``left``: what is there that should not be, each with the reason."""

    code = "leftovers"
    log_level: ClassVar[int] = logging.ERROR

    def __init__(self, message: str, left: Sequence[str]) -> None:
        super().__init__(message)
        self.left = tuple(left)


class CredentialsNotMadeError(LeftoversError):
    """Credentials were not made; what had been made of them was removed again, but for ``left``.

    ``__cause__`` says why.
    """

    code = "credentials_not_made"

    def __init__(self, bucket: str, why: BaseException, left: Sequence[str]) -> None:
        rest = f"; left behind, remove by hand: {'; '.join(left)}" if left else "; nothing is left behind"
        super().__init__(f"no credentials for the bucket {bucket} were made: {why}{rest}", left)


class CredentialsNotRevokedError(LeftoversError):
    """The access key is gone, so nobody gets in with it, but not what is in ``left``. It may be tried again."""

    code = "credentials_not_revoked"

    def __init__(self, access_key_id: str, left: Sequence[str]) -> None:
        super().__init__(f"the access key {access_key_id} is gone, but not: {'; '.join(left)}", left)


class BucketNotEmptiedError(LeftoversError):
    """Some of what is in the bucket could not be removed, so it is still there. ``left`` has keys of objects."""

    code = "bucket_not_emptied"

    def __init__(self, bucket: str, left: Sequence[str]) -> None:
        super().__init__(f"the bucket {bucket} could not be emptied: {'; '.join(left)}", left)
        self._bucket = bucket

    @property
    @override
    def log_message(self) -> str:
        return f"the bucket {self._bucket} could not be emptied"


_BUCKET_ERRORS: Mapping[str, tuple[type[BucketError], str]] = {
    "BucketAlreadyExists": (BucketTakenError, "the name {bucket} is taken by somebody else; choose another"),
    "BucketAlreadyOwnedByYou": (BucketExistsError, "the bucket {bucket} is there already"),
    "InvalidBucketName": (InvalidBucketNameError, "the service takes no bucket by the name {bucket}"),
    "BucketNotEmpty": (BucketNotEmptyError, "the bucket {bucket} is not empty: empty it, or force its deletion"),
    "NoSuchBucket": (BucketNotFoundError, "there is no bucket {bucket}"),
}
# IAM has codes of its own.
_IAM_ERRORS: Mapping[str, type[ObjectStoreError]] = {
    "InvalidClientTokenId": UnauthenticatedError,
    "AccessDeniedException": PermissionDeniedError,
    "ServiceFailure": StoreUnavailableError,
    "ConcurrentModification": StoreUnavailableError,
    "EntityTemporarilyUnmodifiable": StoreUnavailableError,
}


@contextmanager
def translated(bucket: str) -> Iterator[None]:
    """Turn what S3's part of the SDK raises in a call about a bucket into an error of rindle's."""
    try:
        with translated_by_store():
            yield
    except ObjectStoreError as error:
        known = _BUCKET_ERRORS.get(code_of(error))
        if known is None:
            raise
        kind, message = known
        raise kind(message.format(bucket=bucket)) from error.__cause__


@contextmanager
def translated_iam() -> Iterator[None]:
    """Turn what IAM's part of the SDK raises into an error of the object store, which says that it was IAM."""
    try:
        with translated_by_store():
            yield
    except ObjectStoreError as error:
        kind = _IAM_ERRORS.get(code_of(error), type(error))
        raise kind(str(error.args[0]), store="iam") from error.__cause__


def is_refusal(error: RindleError) -> bool:
    """Whether the service has said that it did not do what was asked. Anything else leaves that open.

    An answer to a second attempt says nothing of the first one, whose answer was lost.
    """
    cause = error.__cause__
    if not isinstance(cause, ClientError) or isinstance(error, TransientStoreError):
        return False
    said: Mapping[str, int] = cause.response.get("ResponseMetadata", {})
    return said.get("RetryAttempts", 0) == 0
