"""Buckets, credentials and policies as they are given out."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, final

from typing_extensions import override

Access = Literal["read-only", "read-write"]


@final
class Secret:
    """A text that is shown only to who asks for it by :meth:`reveal`: not by repr, str, a format or a traceback."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text."""
        return self._text

    @override
    def __repr__(self) -> str:
        return "Secret(...)"


def moment(said: datetime | None) -> datetime | None:
    """An instant as it is given out: the SDK has its own time zones."""
    return None if said is None else said.astimezone(UTC)


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket as a listing has it. ``region``: where the service says it."""

    name: str
    created_at: datetime | None
    region: str | None


@dataclass(frozen=True, slots=True)
class Emptied:
    """What a forced deletion has removed so far; every version of an object, and every mark of a deletion, is one."""

    objects: int = 0
    multiparts: int = 0


@dataclass(frozen=True, slots=True)
class Scope:
    """What credentials are for. ``prefix``: only keys below it; all keys without."""

    bucket: str
    access: Access = "read-write"
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A new access key. Nobody else knows its secret, and the service does not give it out again.

    ``user`` is the one that the key belongs to; where keys are their own users (Tigris), the key.
    """

    scope: Scope
    access_key_id: str
    secret_access_key: Secret
    user: str
    policy_arn: str


@dataclass(frozen=True, slots=True)
class AccessKey:
    """An access key that was made for a bucket. Without a policy it may do nothing: its making was interrupted."""

    access_key_id: str
    user: str
    policy_arn: str | None
    created_at: datetime | None


@dataclass(frozen=True, slots=True)
class PolicySummary:
    """A policy as a listing has it."""

    name: str
    arn: str
    created_at: datetime | None


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy, what it says, and for whom: users, or access keys where they are their own users (Tigris)."""

    name: str
    arn: str
    created_at: datetime | None
    document: Mapping[str, Any]
    attached_to: tuple[str, ...]
