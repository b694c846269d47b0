"""Small durable state behind one contract: records and counters that outlive the server's process. No HTTP in here."""
