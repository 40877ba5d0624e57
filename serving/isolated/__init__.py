"""Scripts that run a registered version with its own code, in a process of its own (``python -I``)."""
