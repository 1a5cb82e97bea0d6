"""One request from client to backend and back: decided in exchange.py, done in handler.py."""
