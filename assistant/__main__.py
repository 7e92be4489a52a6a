"""`python -m assistant` is the `thousand` command."""

from assistant.cli import main

main()
