"""The tenant's side: packing, the clients, the command line."""
