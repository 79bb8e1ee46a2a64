"""The journal of a multipart: which parts there are, and which attempt at each was the last.

Azure keeps blocks beside a blob by names that the writer gives, and can forget them, but cannot say which of two was
meant, nor that there is to be no more of them. So every multipart has an append blob in the container,
``.rindle/multiparts/<name of the blob>/<multipart id>``, to which each part adds a line when its block is stored, in
the order of the service. Whoever finds no journal to add to has a multipart that is completed or aborted. The journal's
own attributes and tags are those that the object will have.
"""

import re
import secrets
from collections.abc import Mapping

from rindle.objectstore.azure.errors import STORE
from rindle.objectstore.azure.values import OWN
from rindle.objectstore.errors import InvalidKeyError
from rindle.objectstore.refusals import no_multipart
from rindle.objectstore.types import MultipartRef, PartMeta

FOLDER = f"{OWN}/multiparts/"

_MULTIPART_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_LINE = re.compile(r"(?P<block>(?P<number>\d{5})-[0-9a-f]{32}) (?P<size>\d+) (?P<crc>[0-9a-f]{16}|-)", re.ASCII)
_LONGEST_NAME = 1024


def new_ref(key: str, *, root: str) -> MultipartRef:
    """A handle that no multipart has had. InvalidKeyError when the key leaves no room for the name of a journal."""
    ref = MultipartRef(key, secrets.token_hex(16))
    surplus = len(journal_of(ref, root=root)) - _LONGEST_NAME
    if surplus > 0:
        msg = f"the key of a multipart must be shorter here, by {surplus} characters"
        raise InvalidKeyError(msg, store=STORE, key=key)
    return ref


def journal_of(ref: MultipartRef, *, root: str) -> str:
    """The name of the journal. MultipartNotFoundError for an id that is none of ours."""
    if not _MULTIPART_ID.fullmatch(ref.multipart_id):
        raise no_multipart(ref, store=STORE)
    return f"{FOLDER}{root}{ref.key}/{ref.multipart_id}"


def ref_of(journal: str, *, root: str) -> MultipartRef | None:
    """Whose journal has this name; None if it is none."""
    key, _, multipart_id = journal.removeprefix(FOLDER + root).rpartition("/")
    return MultipartRef(key, multipart_id) if key and _MULTIPART_ID.fullmatch(multipart_id) else None


def new_block(part_number: int) -> str:
    """The name of a block, which is one attempt's and the part's e_tag. All are of one length, as Azure wants."""
    return f"{part_number:05}-{secrets.token_hex(16)}"


def spell_part(part: PartMeta) -> bytes:
    """A part's line."""
    crc = "-" if part.crc64nvme is None else f"{part.crc64nvme:016x}"
    return f"{part.e_tag} {part.size} {crc}\n".encode()


def read_parts(journal: bytes) -> Mapping[int, PartMeta]:
    """The last attempt at each part, by number."""
    parts = (_read_part(found) for found in _LINE.finditer(journal.decode()))
    return {part.part_number: part for part in sorted(parts, key=lambda part: part.part_number)}


def _read_part(line: re.Match[str]) -> PartMeta:
    crc = None if line["crc"] == "-" else int(line["crc"], 16)
    return PartMeta(part_number=int(line["number"]), size=int(line["size"]), e_tag=line["block"], crc64nvme=crc)
