"""Servers that speak S3's API, each of its own kind of right, and buckets on them."""

import asyncio
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typing_extensions import override

from tests.ceph import missing_programs, running_ceph
from tests.daemons import PATIENCE, free_port, moments, running, wait_until_healthy
from tests.required import missing

if TYPE_CHECKING:
    from rindle.objectstore.s3 import S3Store

ROOT = Path(__file__).parents[1]
LOCALSTACK = ROOT / ".localstack" / "bin" / "python"
VERSITYGW = ROOT / ".versitygw" / "versitygw"
STRANGER = "stranger"
"""Both keys of a user whom servers that look at signatures know, and who may do nothing in the buckets of others."""
SMALL_PART = 5000
"""The least size of a part on moto, so that tests are quick. LocalStack has S3's own."""

_XML = {"Content-Type": "application/xml"}
_RUNNING = re.compile(r"Running on (http://127\.0\.0\.1:\d+)")


@dataclass(frozen=True)
class S3Server:
    """One server; ``options`` say what it is like, which a store would otherwise have to find out."""

    endpoint: str
    options: dict[str, Any]

    async def new_bucket(self) -> str:
        bucket = f"bucket-{secrets.token_hex(6)}"
        await asyncio.to_thread(self._put, bucket)
        return bucket

    async def enable_versions(self, bucket: str) -> None:
        body = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
        await asyncio.to_thread(self._put, f"{bucket}?versioning", body)

    async def put_object(self, bucket: str, name: str) -> None:
        """As anybody may do it, whatever the name."""
        await asyncio.to_thread(self._put, f"{bucket}/{name}")

    async def new_kms_key(self) -> str:
        """The ARN of a new key of KMS, where the server has that too."""
        return await asyncio.to_thread(self._create_key)

    def _create_key(self) -> str:
        scope = "Credential=test/20260102/us-east-1/kms/aws4_request"
        headers = {
            "X-Amz-Target": "TrentService.CreateKey",
            "Content-Type": "application/x-amz-json-1.1",
            "Authorization": f"AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=none",
        }
        request = urllib.request.Request(self.endpoint, data=b"{}", headers=headers)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return str(json.load(answer)["KeyMetadata"]["Arn"])

    async def new_store(self, prefix: str = "", **options: Any) -> "S3Store":
        """A store on a new bucket; whoever asks for it closes it."""
        return self.store(await self.new_bucket(), prefix, **options)

    def store(self, bucket: str, prefix: str = "", **options: Any) -> "S3Store":
        # Every run of any test has this module, and few need the SDK, which takes its time.
        from rindle.objectstore.s3 import S3Options, S3Store  # noqa: PLC0415

        chosen = {"endpoint": self.endpoint, "region": "us-east-1", **self.options, **options}
        return S3Store(S3Options(bucket=bucket, prefix=prefix, **chosen))

    def url(self, bucket: str, **parameters: str) -> str:
        profile = {name: value for name, value in self.options.items() if name == "profile"}
        chosen = {"endpoint": self.endpoint, "region": "us-east-1", **profile, **parameters}
        return f"s3://{bucket}?{'&'.join(f'{name}={value}' for name, value in chosen.items())}"

    def _put(self, path: str, body: bytes = b"") -> None:
        request = urllib.request.Request(f"{self.endpoint}/{path}", method="PUT", data=body, headers=_XML)
        with urllib.request.urlopen(request, timeout=PATIENCE):
            pass


class SigningS3Server(S3Server):
    """One that looks at signatures, so that buckets too are made by the SDK."""

    @override
    async def new_bucket(self) -> str:
        bucket = f"bucket-{secrets.token_hex(6)}"
        async with self.store(bucket) as store:
            await store._bucket.call("create_bucket")
        return bucket


@pytest.fixture(scope="session", autouse=True)
def aws_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keys that test servers take; and nothing of what the developer has for AWS."""
    authority = tmp_path_factory.mktemp("aws") / "authority.pem"
    authority.write_text(_one_authority())
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        # Each store reads all authorities of the world, for 25 ms, and no server here has a certificate.
        patch.setenv("AWS_CA_BUNDLE", str(authority))
        yield


def _one_authority() -> str:
    found = find_spec("botocore")
    assert found is not None
    assert found.origin is not None
    begun, end, _ = Path(found.origin).with_name("cacert.pem").read_text().partition("-----END CERTIFICATE-----")
    return begun + end


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Quick and pure Python; lax about checksums, e_tags in conditions, and multiparts that are not there."""
    log = tmp_path_factory.mktemp("moto") / "log"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with running(command, {"S3_UPLOAD_PART_MIN_SIZE": str(SMALL_PART)}, log) as process:
        endpoint = _wait_for_endpoint(process, log)
        conditions = frozenset({"put", "update", "complete"})
        yield S3Server(endpoint, {"min_part_size": SMALL_PART, "checksums": "none", "conditions": conditions})


@pytest.fixture(scope="session")
def localstack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Honours conditions on Put and Complete, checksums, sizes of parts; does not look at signatures."""
    if not LOCALSTACK.exists():
        missing("localstack", "there is no LocalStack: make localstack")
    folder = tmp_path_factory.mktemp("localstack")
    port = free_port()
    variables = {
        "HOME": str(folder),
        "GATEWAY_LISTEN": f"127.0.0.1:{port}",
        "SERVICES": "s3",
        "STRICT_SERVICE_LOADING": "1",
        "EAGER_SERVICE_LOADING": "1",
        "DISABLE_EVENTS": "1",
        "SKIP_SSL_CERT_DOWNLOAD": "1",
        "SKIP_INFRA_DOWNLOADS": "1",
        "FILESYSTEM_ROOT": str(folder / "fs"),
    }
    endpoint = f"http://127.0.0.1:{port}"
    with running([str(LOCALSTACK), "-m", "localstack.runtime.main"], variables, folder / "log") as process:
        wait_until_healthy(process, f"{endpoint}/_localstack/health", folder / "log")
        conditions = frozenset({"put", "update", "complete"})
        yield S3Server(endpoint, {"checksums": "crc64nvme", "conditions": conditions})
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def versitygw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Looks at signatures, and wants what AWS's documents say that AWS wants."""
    if not VERSITYGW.exists():
        missing("versitygw", "there is no versitygw: make versitygw (with Go)")
    folder = tmp_path_factory.mktemp("versitygw")
    for name in ("data", "users"):
        (folder / name).mkdir()
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    keys = {"ROOT_ACCESS_KEY": "test", "ROOT_SECRET_KEY": "test"}
    options = ["--port", f"127.0.0.1:{port}", "--health", "/health", "--iam-dir", str(folder / "users")]
    with running([str(VERSITYGW), *options, "posix", str(folder / "data")], keys, folder / "log") as process:
        wait_until_healthy(process, f"{endpoint}/health", folder / "log")
        root = ["--access", "test", "--secret", "test", "--endpoint-url", endpoint]
        user = ["--access", STRANGER, "--secret", STRANGER, "--role", "user"]
        subprocess.run([str(VERSITYGW), "admin", *root, "create-user", *user], check=True, capture_output=True)
        yield SigningS3Server(endpoint, {"profile": "versitygw"})
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Looks at signatures; knows few conditions and no checksums, and answers unlike AWS about multiparts."""
    if lacking := missing_programs():
        missing("ceph", f"there is no {lacking[0]}: install Debian's ceph-mon, ceph-osd and radosgw")
    folder = tmp_path_factory.mktemp("ceph")
    with running_ceph(folder, "test", STRANGER) as endpoint:
        yield SigningS3Server(endpoint, {"profile": "ceph"})
    shutil.rmtree(folder, ignore_errors=True)


def _wait_for_endpoint(process: subprocess.Popen[bytes], log: Path) -> str:
    for _ in moments(process, log):
        if found := _RUNNING.search(log.read_text()):
            return found[1]
    raise AssertionError
