"""`python -m asgipipe` is the `asgipipe` command."""

from asgipipe.cli.main import main

if __name__ == "__main__":
    main()
