"""What `rindle doctor` looks at, one file for each thing."""
