"""Genres in Vorbis comments: the list of fields itself, and the two containers that hold it, FLAC and Ogg."""
