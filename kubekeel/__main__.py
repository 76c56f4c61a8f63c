"""``python -m kubekeel``."""

from .cli import main

if __name__ == "__main__":
    main()
