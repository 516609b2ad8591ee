"""The file that keeps a job until it is acknowledged: its layout, the ring, and what a dead producer leaves."""
