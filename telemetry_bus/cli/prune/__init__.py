"""The command `telemetry-bus prune`."""
