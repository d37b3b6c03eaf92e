"""Values that a function finds in its environment and that nobody can read again."""
