"""The pages of `telemetry-report serve`: the overview and every report, read from the database at each request."""
