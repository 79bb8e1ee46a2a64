"""What can be done about buckets, and about who may use them."""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Self

from rindle.buckets.clients import AdminOptions, Clients
from rindle.buckets.emptying import Emptying, Progress
from rindle.buckets.errors import BucketExistsError, BucketNotEmptyError, BucketNotFoundError, BucketTakenError
from rindle.buckets.iam import Iam
from rindle.buckets.issuing import Issuer
from rindle.buckets.model import (
    Access,
    AccessKey,
    Bucket,
    Credentials,
    Emptied,
    Policy,
    PolicySummary,
    Scope,
    moment,
)
from rindle.buckets.names import validate_bucket_name
from rindle.buckets.undo import all_or_nothing
from rindle.objectstore.errors import PermissionDeniedError, UnsupportedOperationError

_PAGE = 1000
_ROUNDS = 3
_DEFAULT = AdminOptions()


class BucketAdmin:
    """Buckets of one account, and access keys that may use one of them. An async context manager; whoever opens closes.

    For S3's buckets, any service will do; for credentials one that has IAM's calls: AWS, Tigris. Every method raises
    :class:`~rindle.buckets.errors.BucketError` or :class:`~rindle.objectstore.errors.ObjectStoreError`;
    InvalidBucketNameError before anything is asked of the service.
    """

    def __init__(self, options: AdminOptions = _DEFAULT) -> None:
        self._clients = Clients(options)
        self._iam = Iam(self._clients)
        self._issuer = Issuer(self._clients, self._iam)

    # Buckets

    async def create(self, name: str) -> None:
        """Make a bucket in the region of the options.

        BucketExistsError when one has it, BucketTakenError when another has it. Of two who make the same bucket in one
        account at the same moment, both may be told that they did.
        """
        validate_bucket_name(name)
        await self._require_absent(name)
        await self._create(name)

    async def ensure_exists(self, name: str) -> bool:
        """Make a bucket if there is none, and say whether this did. BucketTakenError when another has it."""
        validate_bucket_name(name)
        if await self._exists(name):
            return False
        await self._create(name)
        return True

    async def delete(self, name: str, *, force: bool = False, on_progress: Progress | None = None) -> Emptied:
        """Delete a bucket; BucketNotFoundError when there is none.

        BucketNotEmptyError when objects are in it, old versions of some, or multiparts that somebody may be about to
        complete; with ``force`` they go too, for ever. Then ``on_progress`` is told what has gone so far, and the sum
        is given back; Tigris empties a bucket by itself and counts nothing. A forced deletion that fails midway may be
        repeated.
        """
        validate_bucket_name(name)
        await self._require(name)
        if not force:
            await self._require_no_multiparts(name)
            await self._delete(name)
            return Emptied()
        if (await self._clients.service()).empties:
            await self._clients.delete_with_content(name)
            return Emptied()
        emptying = Emptying(self._clients, name, on_progress)
        for _ in range(_ROUNDS):
            await emptying.run()
            try:
                await self._delete(name)
            except BucketNotEmptyError:
                continue
            return emptying.emptied
        msg = f"the bucket {name} is filled while it is emptied: stop whoever writes, and try again"
        raise BucketNotEmptyError(msg)

    async def list(self) -> Sequence[Bucket]:
        """All buckets of the account, by name."""
        found = [
            Bucket(said["Name"], moment(said.get("CreationDate")), said.get("BucketRegion"))
            async for page in self._clients.pages("list_buckets", None, PaginationConfig={"PageSize": _PAGE})
            for said in page.get("Buckets", ())
        ]
        return sorted(found, key=lambda bucket: bucket.name)

    # Credentials

    async def create_with_credentials(
        self, name: str, *, access: Access = "read-write", prefix: str = "", user: str | None = None
    ) -> Credentials:
        """Make a bucket and an access key for it, or neither: as :meth:`create` and :meth:`generate_credentials`."""
        scope = Scope(validate_bucket_name(name), access, prefix)
        await self._issuer.check(scope, user)
        await self._require_absent(name)
        async with all_or_nothing(name) as made:
            async with made.step(f"the bucket {name}", partial(self._delete, name)):
                await self._create(name)
            return await self._issuer.issue(scope, user, made)

    async def generate_credentials(
        self, bucket: str, *, access: Access = "read-write", prefix: str = "", user: str | None = None
    ) -> Credentials:
        """Make an access key that may use the bucket, or the keys below a prefix in it, and nothing else.

        Where access keys belong to users (AWS) it gets one of its own, or that ``user``: then the key may also do what
        the user may already, and the user's other keys what this one may. A new key of AWS's may take some seconds
        until it works everywhere.

        InvalidScopeError for what a policy cannot say; BucketNotFoundError. CredentialsNotMadeError when it fails
        midway: what was made is removed again, the last thing first, and what could not be removed is named.
        """
        scope = Scope(validate_bucket_name(bucket), access, prefix)
        await self._issuer.check(scope, user)
        await self._require(bucket)
        async with all_or_nothing(bucket) as made:
            return await self._issuer.issue(scope, user, made)

    async def list_keys(self, bucket: str) -> Sequence[AccessKey]:
        """The access keys that were made for a bucket, whether it is still there or not."""
        return await self._issuer.keys(validate_bucket_name(bucket))

    async def revoke_credentials(self, bucket: str, access_key_id: str) -> None:
        """Remove an access key that was made for a bucket; then its policy, and its user if that was made with it.

        AccessKeyNotFoundError when there is none, CredentialsNotRevokedError when only the key could be removed; then
        it may be repeated. A user made for a key stays, with its policy, if somebody has given it another key.
        """
        await self._issuer.revoke(validate_bucket_name(bucket), access_key_id)

    async def list_policies(self, bucket: str) -> Sequence[PolicySummary]:
        """The policies that were made for a bucket."""
        return await self._issuer.policies(validate_bucket_name(bucket))

    async def get_policy(self, arn: str) -> Policy:
        """What a policy says, and for whom; PolicyNotFoundError."""
        return await self._iam.get_policy(arn)

    async def aclose(self) -> None:
        """Close all connections; harmless when done twice."""
        await self._clients.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _find(self, name: str) -> bool:
        """Whether there is such a bucket; PermissionDeniedError for one that these credentials may not list.

        HEAD would be the call for this, if it said why it is refused.
        """
        try:
            await self._clients.call("list_objects_v2", name, MaxKeys=1)
        except BucketNotFoundError:
            return False
        return True

    async def _exists(self, name: str) -> bool:
        """Whether one has this bucket. BucketTakenError when another has it."""
        try:
            return await self._find(name)
        except PermissionDeniedError as error:
            msg = f"the bucket {name} is somebody else's, or these credentials may not list it; choose another name"
            raise BucketTakenError(msg) from error

    async def _require(self, name: str) -> None:
        with suppress(PermissionDeniedError):
            if not await self._find(name):
                msg = f"there is no bucket {name}"
                raise BucketNotFoundError(msg)

    async def _require_absent(self, name: str) -> None:
        if await self._exists(name):
            msg = f"the bucket {name} is there already"
            raise BucketExistsError(msg)

    async def _create(self, name: str) -> None:
        """Make a bucket that was not there a moment ago: one that is one's own now was made by this call.

        It is repeated, by the SDK and by the HTTP client below it, when its answer is lost.
        """
        region = await self._clients.region()
        elsewhere = region not in {"us-east-1", "aws-global", "auto"}
        location = {"CreateBucketConfiguration": {"LocationConstraint": region}} if elsewhere else {}
        try:
            await self._clients.call("create_bucket", name, **location)
        except BucketExistsError:
            return

    async def _delete(self, name: str) -> None:
        """Delete an empty bucket. One that is not there any more was deleted by this call, whose answer was lost."""
        try:
            await self._clients.call("delete_bucket", name)
        except BucketNotFoundError:
            return

    async def _require_no_multiparts(self, name: str) -> None:
        try:
            answer = await self._clients.call("list_multipart_uploads", name, MaxUploads=1)
        except UnsupportedOperationError:
            return
        if answer.get("Uploads"):
            msg = f"uploads into the bucket {name} are not finished: wait for them, or force the deletion"
            raise BucketNotEmptyError(msg)
