"""What makes a snapshot unreadable to whoever has the store but not the key: the contract, and one that does not."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from typing_extensions import override


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """What is stored instead of a snapshot's bytes. ``header`` says, to everybody, what is needed to open it."""

    encrypter: str
    header: Mapping[str, str] = field(default_factory=dict)
    ciphertext: bytes


class Encrypter(ABC):
    """Seals bytes and opens what it has sealed. ``name`` stands in each envelope.

    ``place`` says which snapshot it is. What was sealed for one place does not open for another.
    """

    name: ClassVar[str]

    @abstractmethod
    async def seal(self, data: bytes, *, place: str) -> Sealed:
        """The bytes, sealed. KeyServiceError."""

    @abstractmethod
    async def unseal(self, sealed: Sealed, *, place: str) -> bytes:
        """The bytes. WrongKeyError, DamagedSnapshotError, KeyServiceError; never bytes that were not sealed there."""


class NoEncryption(Encrypter):
    """Stores the bytes as they are: for tests, or where the store encrypts them. It notices no change to them."""

    name = "none"

    @override
    async def seal(self, data: bytes, *, place: str) -> Sealed:
        return Sealed(encrypter=self.name, ciphertext=data)

    @override
    async def unseal(self, sealed: Sealed, *, place: str) -> bytes:
        return sealed.ciphertext
