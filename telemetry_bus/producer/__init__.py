"""The producer's side: recording a job, keeping it, and sending it until it is acknowledged."""
