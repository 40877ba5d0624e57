"""A person's music library: predictions for its files, genre tags, and their undo."""
