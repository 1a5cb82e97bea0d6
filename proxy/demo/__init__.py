"""The demonstration: sample works, a backend that answers from them, and the journey that shows the product.

Nothing here is used while serving. It stands on the product's own commands and routes, as a user would, so
that what the demo shows is what a user gets. This file imports nothing: the backend is its own process.
"""
