"""Inputs of the models: what is computed of a clip."""
