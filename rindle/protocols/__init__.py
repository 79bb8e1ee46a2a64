"""Wire protocols without I/O: headers in, commands out; results in, status and headers out."""
