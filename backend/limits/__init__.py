"""How much of a process one user, or one address, may take at once."""
