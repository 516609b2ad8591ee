"""The soak: producers that come and go for a long time, what is measured meanwhile, and whether it grows."""
