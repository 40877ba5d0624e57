"""Deployment: serves the version that an alias points to, and follows the alias without losing a request."""
