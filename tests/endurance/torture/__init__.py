"""The torture: producers and their writer at full speed, killed at random, and what is missing afterwards."""
