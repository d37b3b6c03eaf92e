"""Tiers as data: what each allows, includes and costs; what a tenant may use right now."""
