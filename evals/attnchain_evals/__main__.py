"""`python -m attnchain_evals` is the command `attnchain`."""

from attnchain_evals.cli.app import main

if __name__ == "__main__":
    main()
