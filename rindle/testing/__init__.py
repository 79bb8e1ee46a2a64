"""Contract suites and fakes, for our tests and for those who write their own backends."""
