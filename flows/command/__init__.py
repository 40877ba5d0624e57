"""A flow run as a command: its signature, its process, and the server that it starts."""
