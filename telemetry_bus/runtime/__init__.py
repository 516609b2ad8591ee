"""What a process needs to take part: the bus folder, locks, wake-ups, its forks and exits, a writer to start."""
