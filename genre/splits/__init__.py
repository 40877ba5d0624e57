"""Train, validation and test: assignment of recordings, and duplicates across them."""
