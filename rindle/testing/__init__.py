"""Contract suites and fakes, for our tests and for those who write their own stores.

:mod:`~rindle.testing.objectstore` has the suites (they need pytest and pytest-asyncio), :mod:`~rindle.testing.payloads`
bodies that misbehave. :class:`FaultyStore` fails or waits where a test wants it to; a store for tests that does not is
:class:`rindle.objectstore.MemoryStore`.
"""

from rindle.testing.faults import FaultyObjectStore, FaultyStore

__all__ = ["FaultyObjectStore", "FaultyStore"]
