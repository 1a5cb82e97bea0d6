"""Webhooks: what happened, told to addresses that an operator named."""
