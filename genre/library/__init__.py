"""Music library of a user: predictions for its files, genre tags, their undo, and labels to correct."""
