"""The demonstration: a batch job on the Python sources of this machine, recorded through the bus and without it."""
