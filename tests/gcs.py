"""fake-gcs-server, an emulator of Google Cloud Storage, what it lacks in front of it, and buckets on it."""

import asyncio
import json
import secrets
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.daemons import PATIENCE, free_port, running, wait_until_healthy
from tests.gcs_front import TOKENS, GCSFront
from tests.required import missing

if TYPE_CHECKING:
    from rindle.objectstore.gcs import GCSStore

ROOT = Path(__file__).parents[1]
SIGNER = "signer@project.iam.gserviceaccount.com"
FAKE_GCS_SERVER = ROOT / ".fake-gcs-server" / "fake-gcs-server"


@dataclass(frozen=True)
class GCSServer:
    """The service as a test meets it."""

    front: GCSFront

    @property
    def endpoint(self) -> str:
        return self.front.endpoint

    @property
    def service_account(self) -> str:
        """A key that the service's tokens can be had for."""
        return service_account(f"{self.endpoint}{TOKENS}")

    async def new_bucket(self, **resource: Any) -> str:
        bucket = f"bucket-{secrets.token_hex(6)}"
        await asyncio.to_thread(self._post, "/storage/v1/b?project=test", {"name": bucket, **resource})
        return bucket

    async def new_store(self, prefix: str = "", **options: Any) -> "GCSStore":
        """A store on a new bucket; whoever asks for it closes it."""
        return self.store(await self.new_bucket(), prefix, **options)

    def store(self, bucket: str, prefix: str = "", **options: Any) -> "GCSStore":
        # Every run of any test has this module, and few need the store, which takes its time.
        from rindle.objectstore.gcs import GCSOptions, GCSStore  # noqa: PLC0415

        chosen = {"endpoint": self.endpoint, "anonymous": True, "min_part_size": self.front.min_part_size, **options}
        return GCSStore(GCSOptions(bucket=bucket, prefix=prefix, **chosen))

    async def put_object(self, bucket: str, name: str) -> None:
        """As anybody may do it, whatever the name."""
        path = f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={quote(name, safe='')}"
        await asyncio.to_thread(self._post, path, "")

    def url(self, bucket: str) -> str:
        return f"gs://{bucket}?anonymous=true&endpoint={self.endpoint}&min_part_size={self.front.min_part_size}"

    def _post(self, path: str, body: Any) -> None:
        data, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.front.target}{path}", method="POST", data=data, headers=headers)
        with urllib.request.urlopen(request, timeout=PATIENCE):
            pass


def service_account(token_uri: str) -> str:
    """The key of a service account, as Google gives it out."""
    return json.dumps(
        {
            "type": "service_account",
            "client_email": SIGNER,
            "private_key": _private_key(),
            "private_key_id": "1",
            "token_uri": token_uri,
        }
    )


@cache
def _private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key.private_bytes(*form).decode()


@pytest.fixture(scope="session")
def fake_gcs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The emulator's own endpoint."""
    if not FAKE_GCS_SERVER.exists():
        missing("fake-gcs-server", "there is no fake-gcs-server: make fake-gcs-server (with Go)")
    folder = tmp_path_factory.mktemp("fake-gcs-server")
    port = free_port()
    command = [str(FAKE_GCS_SERVER), "-host", "127.0.0.1", "-port", str(port), "-public-host", "127.0.0.1"]
    command += ["-scheme", "http", "-backend", "memory", "-log-level", "warn"]
    endpoint = f"http://127.0.0.1:{port}"
    with running(command, {}, folder / "log") as process:
        wait_until_healthy(process, f"{endpoint}/_internal/healthcheck", folder / "log")
        yield endpoint


@pytest.fixture
async def gcs(fake_gcs_server: str) -> AsyncIterator[GCSServer]:
    async with GCSFront(fake_gcs_server) as front:
        yield GCSServer(front)
