"""Attributes and tags as the JSON that lies beside an object, or waits in a multipart."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from rindle.objectstore.errors import ObjectStoreError
from rindle.objectstore.local.errors import STORE
from rindle.objectstore.types import NO_ATTRIBUTES, Attributes

_TEXTS = ("content_type", "content_disposition", "content_encoding", "content_language", "cache_control")


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What is known of an object besides its bytes. False when there is nothing to say."""

    attributes: Attributes = NO_ATTRIBUTES
    tags: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.attributes or self.tags)

    def to_json(self) -> dict[str, Any]:
        """As values that JSON can write."""
        texts = {name: getattr(self.attributes, name) for name in _TEXTS}
        return {"attributes": texts | {"metadata": dict(self.attributes.metadata)}, "tags": dict(self.tags)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """What :meth:`to_json` gave; the tags of an object that has none are empty."""
        texts = {name: value["attributes"][name] for name in _TEXTS}
        attributes = Attributes(**texts, metadata=value["attributes"]["metadata"])
        return cls(attributes, MappingProxyType(value["tags"]))


def read_json(path: Path, *, key: str | None = None) -> Any:  # noqa: ANN401 - JSON is
    """A JSON file of ours. ObjectStoreError if somebody has bent it: it was written whole or not at all."""
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        msg = f"{path} cannot be read"
        raise ObjectStoreError(msg, store=STORE, key=key) from error


def to_bytes(value: Mapping[str, Any]) -> bytes:
    """JSON for a file of ours."""
    return json.dumps(value, ensure_ascii=False, indent=1).encode()
