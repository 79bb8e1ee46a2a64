"""Names in the store. All of an upload's lie under two prefixes of its own, so that none can be lost sight of."""

from rindle.uploads.ids import new_token


def upload_prefix(root: str, upload_id: str) -> str:
    """What every key of this upload starts with."""
    return f"{root}/{upload_id}/" if root else f"{upload_id}/"


def tail_prefix(root: str, upload_id: str) -> str:
    """What the key of every spilled tail of this upload starts with: no place where anybody looks for objects."""
    return f"{root}.tails/{upload_id}/"


def new_key(prefix: str) -> str:
    """A key that no attempt has had before: a late write of a dead attempt can then never replace an object."""
    return prefix + new_token()
