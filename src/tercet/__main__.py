"""`python -m tercet` is `tercet`, for `accelerate launch -m tercet adapt RECIPE`."""

from tercet.commands.main import main

if __name__ == "__main__":
    main()
