"""Tenants: who owns everything else."""
