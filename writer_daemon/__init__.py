"""The process around the writer: command line, poll loop, signals, sockets."""
