import json
from typing import Any

import pytest

from rindle.buckets import Scope
from rindle.buckets.policies import is_policy_for, name_policy, write_document
from rindle.buckets.services import is_aws, profile_at, service_of, tigris_iam

AWS, TIGRIS = service_of("aws"), service_of("tigris")


def actions(document: Any) -> dict[str, set[str]]:
    """By resource."""
    found: dict[str, set[str]] = {}
    for statement in document["Statement"]:
        assert statement["Effect"] == "Allow"
        found.setdefault(statement["Resource"], set()).update(statement["Action"])
    return found


def test_reading_and_writing_a_bucket() -> None:
    document = write_document(Scope("media"), AWS, partition="aws")
    found = actions(document)
    assert set(found) == {"arn:aws:s3:::media", "arn:aws:s3:::media/*"}
    assert found["arn:aws:s3:::media"] == {"s3:ListBucket", "s3:ListBucketMultipartUploads"}
    assert "s3:PutObject" in found["arn:aws:s3:::media/*"]
    assert not any("*" in action for actions in found.values() for action in actions)


def test_reading_alone() -> None:
    found = actions(write_document(Scope("media", "read-only"), AWS, partition="aws-cn"))
    assert found["arn:aws-cn:s3:::media"] == {"s3:ListBucket"}
    assert all(action.startswith("s3:Get") for action in found["arn:aws-cn:s3:::media/*"])


def test_a_prefix_bounds_keys_and_listings() -> None:
    document = write_document(Scope("media", prefix="team/é"), AWS, partition="aws")
    assert document["Statement"][0]["Condition"] == {"StringLike": {"s3:prefix": "team/é/*"}}
    assert set(actions(document)) == {"arn:aws:s3:::media", "arn:aws:s3:::media/team/é/*"}
    assert json.dumps(document).isascii()  # IAM takes no others


def test_what_a_service_does_not_know_is_left_out() -> None:
    assert "Version" not in json.dumps(write_document(Scope("media"), TIGRIS, partition="aws")["Statement"])


def test_names_say_for_which_bucket_and_whose() -> None:
    name = name_policy("media", "AKIAIOSFODNN7EXAMPLE")
    assert name == name_policy("media", "AKIAIOSFODNN7EXAMPLE") != name_policy("media", "AKIAI44QH8DHBEXAMPLE")
    assert "AKIA" not in name
    assert is_policy_for("media", name)
    for other in ("medi", "media-2", "m.dia", f"media-{name[-16:]}"):
        assert not is_policy_for(other, name)
    assert len(name_policy("a" * 63, "tid_" + "x" * 60)) <= 128  # IAM's limit


@pytest.mark.parametrize(
    ("endpoint", "profile", "iam"),
    [
        ("https://t3.storage.dev", "tigris", "https://iam.storage.dev"),
        ("https://t3.storageapi.dev", "tigris", "https://iam.storageapi.dev"),
        ("https://fly.storage.tigris.dev", "tigris", "https://fly.iam.storage.tigris.dev"),
        ("https://s3.eu-central-1.amazonaws.com", "aws", None),
        ("https://s3.example.org", "other", None),
        ("https://notstorage.dev", "other", None),
        ("https://t3.storage.dev.example.org", "other", None),
    ],
)
def test_services_are_known_by_their_domains(endpoint: str, profile: str, iam: str | None) -> None:
    assert profile_at(endpoint) == profile
    assert tigris_iam(endpoint) == iam


@pytest.mark.parametrize(
    ("endpoint", "answer"),
    [
        ("https://iam.amazonaws.com", True),
        ("https://iam.cn-north-1.amazonaws.com.cn", True),
        ("https://iam.example.org", False),
        ("https://amazonaws.com.example.org", False),
    ],
)
def test_aws_is_known_by_its_domains(endpoint: str, answer: object) -> None:
    assert is_aws(endpoint) is answer
