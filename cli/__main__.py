"""`python -m facechain.cli`: the command, for whoever knows the interpreter but not where scripts are."""

from .main import main

if __name__ == "__main__":
    main()
