"""``python -m pocketrank.commands``: the command where its script is not on the path."""

from pocketrank.commands import main

main()
