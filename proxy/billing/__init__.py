"""Usage into money: prices, shares of money, a ledger that balances, and statements that add up."""
