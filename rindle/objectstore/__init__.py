"""A general object-store abstraction; it knows no upload, no server and no SQL."""
