"""Buckets, and credentials that may use one of them, on S3 and services that speak its API."""

from rindle.buckets.admin import BucketAdmin
from rindle.buckets.clients import AdminOptions
from rindle.buckets.model import (
    Access,
    AccessKey,
    Bucket,
    Credentials,
    Emptied,
    Policy,
    PolicySummary,
    Scope,
    Secret,
)

__all__ = [
    "Access",
    "AccessKey",
    "AdminOptions",
    "Bucket",
    "BucketAdmin",
    "Credentials",
    "Emptied",
    "Policy",
    "PolicySummary",
    "Scope",
    "Secret",
]
