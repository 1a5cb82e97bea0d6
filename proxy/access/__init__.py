"""Who is asking: keys, what they may do, and the ring that knows them while the store is away."""
