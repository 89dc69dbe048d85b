"""python -m edgepass."""

from edgepass.cli import main

if __name__ == "__main__":
    main()
