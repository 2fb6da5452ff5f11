"""Run the command line: ``python -m hybridflow``."""

from hybridflow.cli import main

if __name__ == "__main__":
    main()
