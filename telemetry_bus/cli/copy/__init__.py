"""The command `telemetry-bus copy`."""
