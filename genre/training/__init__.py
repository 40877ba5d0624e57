"""One training in its own process, and the choice of an ensemble from several."""
