"""Objects in a container of Azure Blob Storage."""

from rindle.objectstore.azure.options import AzureOptions
from rindle.objectstore.azure.store import AzureStore

__all__ = ["AzureOptions", "AzureStore"]
