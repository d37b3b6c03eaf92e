"""Keys, scopes and who is calling."""
