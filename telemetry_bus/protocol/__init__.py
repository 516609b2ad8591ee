"""The protocol between producers and writer, as pure code: no sockets, no threads, no clocks."""
