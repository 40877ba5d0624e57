"""Music library of a user: predictions for its files, genre tags, and their undo."""
