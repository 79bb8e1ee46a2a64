"""Encryption with a key that the caller has: AES-256-GCM, by the library ``cryptography``."""

import hashlib
import json
import os
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from typing_extensions import override

from rindle.snapshots.encrypters import Encrypter, Sealed
from rindle.snapshots.errors import DamagedSnapshotError, WrongKeyError

KEY_SIZE = 32
_NONCE_SIZE = 12


class AesEncrypter(Encrypter):
    """AES-256-GCM with one key of 32 random bytes. The envelope names the key by eight bytes of a digest of it."""

    name = "aes-256-gcm"

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_SIZE:
            msg = f"a key for AES-256 has {KEY_SIZE} bytes, not {len(key)}"
            raise ValueError(msg)
        self._key = key
        self.key_id = hashlib.sha256(b"rindle snapshot key\0" + key).hexdigest()[:16]

    @override
    def __repr__(self) -> str:
        return f"AesEncrypter(key_id={self.key_id!r})"

    @override
    async def seal(self, data: bytes, *, place: str) -> Sealed:
        header = {"key-id": self.key_id}
        return Sealed(encrypter=self.name, header=header, ciphertext=encrypt(self._key, data, header, place))

    @override
    async def unseal(self, sealed: Sealed, *, place: str) -> bytes:
        key_id = sealed.header.get("key-id")
        if key_id != self.key_id:
            msg = f"{place} was sealed with the key {key_id}, and this one is {self.key_id}"
            raise WrongKeyError(msg)
        return decrypt(self._key, sealed.ciphertext, sealed.header, place)


def encrypt(key: bytes, data: bytes, header: Mapping[str, str], place: str) -> bytes:
    """A random nonce, the ciphertext, and the tag, which covers header and place as well."""
    nonce = os.urandom(_NONCE_SIZE)
    return nonce + AESGCM(key).encrypt(nonce, data, _covered(header, place))


def decrypt(key: bytes, ciphertext: bytes, header: Mapping[str, str], place: str) -> bytes:
    """What was encrypted with this header for this place; else DamagedSnapshotError."""
    nonce, rest = ciphertext[:_NONCE_SIZE], ciphertext[_NONCE_SIZE:]
    try:
        return AESGCM(key).decrypt(nonce, rest, _covered(header, place))
    except (InvalidTag, ValueError):
        msg = f"{place} was changed since it was written, or belongs to another stack or revision"
        raise DamagedSnapshotError(msg) from None


def _covered(header: Mapping[str, str], place: str) -> bytes:
    return json.dumps([dict(header), place], sort_keys=True).encode()
