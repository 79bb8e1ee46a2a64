"""Encryption with data keys that AWS KMS gives out, and alone can read back: no key is stored that opens anything."""

import asyncio
from base64 import b64decode, b64encode
from typing import Any

import aioboto3
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.exceptions import BotoCoreError, ClientError
from botocore.loaders import Loader
from typing_extensions import override

from rindle.snapshots.aes import KEY_SIZE, decrypt, encrypt
from rindle.snapshots.encrypters import Encrypter, Sealed
from rindle.snapshots.errors import DamagedSnapshotError, KeyServiceError, SnapshotError, WrongKeyError

_CONTEXT = {"purpose": "rindle-snapshots"}
"""What KMS binds a data key to, writes into its log, and may be made a condition of a policy."""

_CONFIG = AioConfig(connect_timeout=5, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 4})
_DESCRIPTIONS = Loader()  # what the SDK reads from its own files, a fifth of a second for each client without it
_NOT_OURS = frozenset({"AccessDeniedException", "IncorrectKeyException"})
_NOT_ITS_OWN = frozenset({"InvalidCiphertextException", "ValidationException"})


class KmsEncrypter(Encrypter):
    """AES-256-GCM with a data key of KMS, one for each of these objects, which the envelope carries encrypted by KMS.

    ``key_id``: id, ARN or alias of the KMS key. ``region``: by default the ARN's, or the SDK's. Credentials come by the
    SDK's own ways; they must allow ``kms:GenerateDataKey`` to write and ``kms:Decrypt`` to read. KMS is asked once to
    write, and once for each data key to read.
    """

    name = "aws-kms"

    def __init__(self, key_id: str, *, region: str | None = None, endpoint: str | None = None) -> None:
        self.key_id = key_id
        self._region = region or _region_of(key_id)
        self._endpoint = endpoint
        self._asking = asyncio.Lock()
        self._sealing: tuple[bytes, dict[str, str]] | None = None
        self._data_keys: dict[str, bytes] = {}

    @override
    def __repr__(self) -> str:
        return f"KmsEncrypter(key_id={self.key_id!r})"

    @override
    async def seal(self, data: bytes, *, place: str) -> Sealed:
        async with self._asking:
            if self._sealing is None:
                self._sealing = await self._make_data_key()
        key, header = self._sealing
        return Sealed(encrypter=self.name, header=header, ciphertext=encrypt(key, data, header, place))

    @override
    async def unseal(self, sealed: Sealed, *, place: str) -> bytes:
        encrypted = sealed.header.get("data-key", "")
        async with self._asking:
            if encrypted not in self._data_keys:
                self._data_keys[encrypted] = await self._read_data_key(encrypted, sealed, place)
        return decrypt(self._data_keys[encrypted], sealed.ciphertext, sealed.header, place)

    async def _make_data_key(self) -> tuple[bytes, dict[str, str]]:
        try:
            made = await self._call("generate_data_key", NumberOfBytes=KEY_SIZE)
        except (BotoCoreError, ClientError) as error:
            msg = f"KMS gives no data key for {self.key_id}: {error}"
            raise KeyServiceError(msg) from error
        encrypted = b64encode(made["CiphertextBlob"]).decode()
        self._data_keys[encrypted] = made["Plaintext"]
        return made["Plaintext"], {"key-id": made["KeyId"], "data-key": encrypted}

    async def _read_data_key(self, encrypted: str, sealed: Sealed, place: str) -> bytes:
        try:
            blob = b64decode(encrypted, validate=True)
        except ValueError:
            blob = b""
        if not blob:
            msg = f"the envelope of {place} has no data key"
            raise DamagedSnapshotError(msg)
        try:
            read = await self._call("decrypt", CiphertextBlob=blob)
        except (BotoCoreError, ClientError) as error:
            raise self._refused(error, sealed, place) from error
        plaintext: bytes = read["Plaintext"]
        return plaintext

    def _refused(self, error: BotoCoreError | ClientError, sealed: Sealed, place: str) -> SnapshotError:
        code = error.response.get("Error", {}).get("Code") if isinstance(error, ClientError) else None
        if code in _NOT_OURS:
            sealed_with = sealed.header.get("key-id")
            msg = f"{place} was sealed with the KMS key {sealed_with}, which {self.key_id} is not, or may not be used"
            return WrongKeyError(msg)
        if code in _NOT_ITS_OWN:
            return DamagedSnapshotError(f"KMS does not know the data key of {place}: its envelope was changed")
        return KeyServiceError(f"KMS does not open the data key of {place}: {error}")

    async def _call(self, operation: str, **parameters: object) -> dict[str, Any]:
        inner = AioSession()
        inner.register_component("data_loader", _DESCRIPTIONS)
        session = aioboto3.Session(botocore_session=inner, region_name=self._region)
        async with session.client("kms", endpoint_url=self._endpoint, config=_CONFIG) as client:
            answer: dict[str, Any] = await getattr(client, operation)(
                KeyId=self.key_id, EncryptionContext=_CONTEXT, **parameters
            )
            return answer


def _region_of(key_id: str) -> str | None:
    """The region in an ARN: ``arn:aws:kms:<region>:<account>:key/<id>``."""
    parts = key_id.split(":")
    return parts[3] if parts[0] == "arn" and len(parts) > 3 else None  # noqa: PLR2004 - the fourth
