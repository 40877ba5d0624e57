"""Serving: the model that MLflow starts, a client and a web page for it, and a server that follows an alias."""
