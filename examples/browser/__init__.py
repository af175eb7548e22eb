"""A movie browser on the terminal, and how an app holds PocketRank: ``python -m examples.browser``."""
