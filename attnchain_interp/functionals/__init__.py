"""What is asked of a chain: its stationary vector, second eigenvalue, expected visits, metastable states."""
