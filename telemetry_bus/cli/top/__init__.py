"""The command `telemetry-bus top`."""
