"""Systems compared over indexes, on test queries."""
