"""Safety of the user: logs without passwords, no reports sent home, model code that is known."""
