"""The `rindle` command."""
