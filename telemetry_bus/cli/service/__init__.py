"""The command `telemetry-bus install-service`."""
