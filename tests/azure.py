"""Azurite, Microsoft's emulator of Azure Storage, and containers on it."""

import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.daemons import moments, running
from tests.required import missing

if TYPE_CHECKING:
    from rindle.objectstore.azure import AzureStore

ROOT = Path(__file__).parents[1]
AZURITE = ROOT / ".azurite" / "node_modules" / ".bin" / "azurite-blob"
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Of every Azurite; it is published."""

_LISTENING = re.compile(r"listens on (http://127\.0\.0\.1:\d+)")


@dataclass(frozen=True)
class Azurite:
    endpoint: str

    async def new_container(self) -> str:
        container = f"container-{secrets.token_hex(6)}"
        async with self.store(container) as store:
            await (await store._connection.clients()).container.create_container()
        return container

    async def new_store(self, prefix: str = "", **options: Any) -> "AzureStore":
        """A store on a new container; whoever asks for it closes it."""
        return self.store(await self.new_container(), prefix, **options)

    def store(self, container: str, prefix: str = "", **options: Any) -> "AzureStore":
        # Every run of any test has this module, and few need the SDK, which takes its time.
        from rindle.objectstore.azure import AzureOptions, AzureStore  # noqa: PLC0415

        chosen = {"account": ACCOUNT, "endpoint": self.account_url, "secret": KEY, **options}
        return AzureStore(AzureOptions(container=container, prefix=prefix, **chosen))

    @property
    def account_url(self) -> str:
        return f"{self.endpoint}/{ACCOUNT}"

    def url(self, container: str) -> str:
        return f"az://{container}?account={ACCOUNT}&endpoint={self.account_url}"


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    """Looks at signatures and checksums; has no versions."""
    node = shutil.which("node")
    if node is None or not AZURITE.exists():
        missing("azurite", "there is no Azurite: make azurite (with Node.js 20 or newer)")
    folder = tmp_path_factory.mktemp("azurite")
    command = [node, str(AZURITE), "--blobHost", "127.0.0.1", "--blobPort", "0", "--silent"]
    command += ["--inMemoryPersistence", "--extentMemoryLimit", "2048", "--skipApiVersionCheck", "--disableTelemetry"]
    with running(command, {"HOME": str(folder)}, folder / "log") as process:
        yield Azurite(_wait_for_endpoint(process, folder / "log"))


def _wait_for_endpoint(process: subprocess.Popen[bytes], log: Path) -> str:
    for _ in moments(process, log):
        if found := _LISTENING.search(log.read_text()):
            return found[1]
    raise AssertionError
