"""PostgreSQL behind the seam: each host's writer has a session there, and all write into the same tables."""
