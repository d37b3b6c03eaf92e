"""Rate, quota and spending caps: enforced by the data plane, shared by nodes through a real Valkey."""
