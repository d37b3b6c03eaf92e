"""Money: buying tiers through Stripe, its webhooks, usage as meter events, invoices, spend caps."""
