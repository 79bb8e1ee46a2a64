"""What can be seen of a running process: numbers, log lines, spans."""
