"""A machine that has just booted, with the writer as a service on it, and producers of another user at work."""
