"""Clips of AudioSet's segments, from YouTube."""
