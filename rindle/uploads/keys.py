"""Names in the store. All of an upload's lie under one prefix of its own, so that none of them can be lost sight of."""

from rindle.uploads.ids import new_token


def upload_prefix(root: str, upload_id: str) -> str:
    """What every key of this upload starts with."""
    return f"{root}/{upload_id}/" if root else f"{upload_id}/"


def new_key(root: str, upload_id: str) -> str:
    """A key that no attempt has had before: a late write of a dead attempt can then never replace an object."""
    return upload_prefix(root, upload_id) + new_token()
