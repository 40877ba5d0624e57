"""Scripts that run a registered version with the code it was logged with, in a process of its own (``python -I``)."""
