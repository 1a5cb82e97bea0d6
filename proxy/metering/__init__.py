"""Usage, exactly once: from the answer to a durable record, and from there into the store."""
