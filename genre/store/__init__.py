"""Inputs of clips on disk."""
