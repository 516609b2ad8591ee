"""What a text of SQL says: its tokens, what kind of statement it is, and its shape."""
