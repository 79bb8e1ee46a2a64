"""The connections to one account: the SDK's clients, and what signs with its key. Made here and nowhere else."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass

import aiohttp
from azure.core.pipeline.transport import AioHttpTransport
from azure.storage.blob.aio import BlobServiceClient, ContainerClient

from rindle.objectstore.azure.credentials import Account, Signer, find_account
from rindle.objectstore.azure.errors import STORE
from rindle.objectstore.azure.options import AzureOptions
from rindle.objectstore.errors import StoreUnavailableError

_READ_SIZE = 1 << 20


@dataclass(frozen=True, slots=True)
class Clients:
    """What a store has open."""

    container: ContainerClient
    signer: Signer


class Connection:
    """The SDK's clients, and their pool of connections, made when they are first needed. For one event loop."""

    def __init__(self, options: AzureOptions) -> None:
        self.options = options
        self.account: Account = find_account(options)
        self._stack = AsyncExitStack()
        self._making = asyncio.Lock()
        self._clients: Clients | None = None
        self._closed = False

    async def aclose(self) -> None:
        """Close all connections, and the credential if it was found here; harmless when done twice."""
        async with self._making:
            if not self._closed:
                self._closed = True
                close = getattr(self.account.credential, "close", None)
                if close is not None and self.options.credential is None:
                    self._stack.push_async_callback(close)
                await self._stack.aclose()

    async def clients(self) -> Clients:
        """The clients."""
        async with self._making:
            if self._closed:
                msg = "the store is closed"
                raise StoreUnavailableError(msg, store=STORE)
            if self._clients is None:
                self._clients = await self._connect()
            return self._clients

    async def _connect(self) -> Clients:
        options = self.options
        # Objects come as they are kept, whatever their content encoding says.
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=options.connections), auto_decompress=False, trust_env=True
        )
        await self._stack.enter_async_context(session)
        transport = AioHttpTransport(
            session=session,
            session_owner=False,
            connection_timeout=options.connect_timeout,
            read_timeout=options.read_timeout,
            connection_data_block_size=_READ_SIZE,
        )
        service = BlobServiceClient(
            self.account.url, credential=self.account.credential, transport=transport, retry_total=0
        )
        signer = Signer(self.account, options.container, service)
        return Clients(service.get_container_client(options.container), signer)
