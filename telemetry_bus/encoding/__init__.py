"""How values, jobs and definitions become bytes, in the journal and in messages alike."""
