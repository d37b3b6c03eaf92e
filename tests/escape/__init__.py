"""Hostile functions, deployed like any tenant's and called over HTTP; what a live worker looks like from outside."""
