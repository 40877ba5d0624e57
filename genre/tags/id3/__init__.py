"""Genres in ID3 tags: of version 2 (`tag` reads one, `editing` plans a change) and of version 1 (`v1`)."""
