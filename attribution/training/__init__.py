"""Scripts that make the shipped models from their sources. Not needed to run anything: extra `train`."""
