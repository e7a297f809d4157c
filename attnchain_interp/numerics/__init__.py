"""How it is found: Krylov subspaces, exact solvers, the gradient of a fixed point."""
