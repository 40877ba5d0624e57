"""The probability table, which every model returns, and pooling of several of them."""
