"""The core: what an upload is and how bytes become an object. It knows no HTTP, SQL or SDK."""
