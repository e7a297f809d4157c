"""Solvers of chains: exact ones, Krylov subspaces, their strategy, the gradient of a fixed point, GPCCA."""
