"""What people and scripts read: the JSON interface under /api, and the pages that are built on it."""
