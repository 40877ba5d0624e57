"""Audio files and bytes to clips."""
