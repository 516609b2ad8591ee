"""SQLite, as the writer uses it."""
