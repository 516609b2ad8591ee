"""Shared ground of the telemetry producers, which import only the public names of `telemetry_bus`."""
