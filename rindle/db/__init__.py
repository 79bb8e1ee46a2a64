"""Upload rows, parts, leases and the outbox in SQLite or PostgreSQL."""
