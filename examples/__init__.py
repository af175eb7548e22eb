"""Programs that show the whole of PocketRank at work."""
