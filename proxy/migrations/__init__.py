"""Schema history: one file a change under versions/, run by proxy.database.upgrade."""
