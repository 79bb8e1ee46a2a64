"""What goes on without a client: expiry, recovery and sweeping."""
