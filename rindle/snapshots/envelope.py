"""A sealed snapshot as it is stored: JSON, so that everybody can see what it is and what would open it."""

import json
from base64 import b64decode, b64encode

from rindle.snapshots.encrypters import Encrypter, Sealed
from rindle.snapshots.errors import DamagedSnapshotError, WrongKeyError

FORMAT = "rindle-snapshot-1"


def pack(sealed: Sealed) -> bytes:
    """The envelope around what was sealed."""
    fields = {
        "format": FORMAT,
        "encrypter": {"name": sealed.encrypter, **sealed.header},
        "ciphertext": b64encode(sealed.ciphertext).decode(),
    }
    return json.dumps(fields, indent=2).encode() + b"\n"


def unpack(envelope: bytes, *, place: str) -> Sealed:
    """What is inside. DamagedSnapshotError if it is not an envelope that :func:`pack` made."""
    try:
        match json.loads(envelope):
            case {"format": "rindle-snapshot-1", "encrypter": {"name": str(name), **rest}, "ciphertext": str(text)}:
                header = {str(key): str(value) for key, value in rest.items()}
                return Sealed(encrypter=name, header=header, ciphertext=b64decode(text, validate=True))
    except ValueError:
        pass
    msg = f"{place} is not a snapshot of the format {FORMAT}"
    raise DamagedSnapshotError(msg)


async def open_envelope(envelope: bytes, encrypter: Encrypter, *, place: str) -> bytes:
    """The snapshot's bytes.

    Nothing vouches for what an envelope says of itself: only the encrypter that the store was given opens anything.
    """
    sealed = unpack(envelope, place=place)
    if sealed.encrypter != encrypter.name:
        key_id = sealed.header.get("key-id")
        key = "" if key_id is None else f" with the key {key_id}"
        msg = f"{place} was sealed by {sealed.encrypter!r}{key}, and this store opens {encrypter.name!r} only"
        raise WrongKeyError(msg)
    return await encrypter.unseal(sealed, place=place)
