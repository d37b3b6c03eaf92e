"""The control plane, as a real process with a real Valkey; and the archive reader that it shares with gateways."""
