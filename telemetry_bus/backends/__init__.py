"""The three ways to get a job written, behind one protocol."""
