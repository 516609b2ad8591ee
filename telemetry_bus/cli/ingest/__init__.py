"""The command `telemetry-bus ingest`."""
