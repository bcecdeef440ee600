"""`python -m resizable_search`: the command, where its script is not on the path."""

from resizable_search.cli.main import main

if __name__ == "__main__":
    main()
