"""What keeps a user's secrets and machine safe: logs without passwords, no reports sent home, known model code."""
