"""The ASGI app that mounts into Starlette, FastAPI or any ASGI host."""
