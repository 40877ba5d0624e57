"""The probability table that every model hands on, and how tables combine."""
