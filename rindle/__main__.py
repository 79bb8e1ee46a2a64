"""``python -m rindle``."""

from rindle.cli.main import main

if __name__ == "__main__":
    main()
