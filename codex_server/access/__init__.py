"""Who may call, how often, and what a repeated call gets: tokens, rate limits, idempotency. No HTTP in here."""
