"""Surroundings of a command, such as servers and folders: checked before it starts, and shown by ``flows.check``."""
