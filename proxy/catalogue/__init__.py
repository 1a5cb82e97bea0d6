"""Works, their creators, splits and consents, and the index built of them."""
