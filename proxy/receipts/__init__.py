"""What anybody can check afterwards: receipts, the log they stand in, and a period's sums."""
