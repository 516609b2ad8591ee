"""The command `telemetry-bus dead-letters`."""
