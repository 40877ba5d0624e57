"""Serve the version that a registry alias points to, and follow the alias without dropping a request."""
