from tests.stores import clock, engine, ids, postgres_engine, store_url

__all__ = ["clock", "engine", "ids", "postgres_engine", "store_url"]
