"""The contenders of scripts/bench, what else is measured, and how the figures are shown."""
