"""What `scripts/bench` runs: the contenders, what else is measured, and how the figures are shown."""
