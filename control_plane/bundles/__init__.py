"""Uploads: streamed to a staging file, checked, and stored by their SHA-256."""
