"""PocketRank beside what one would use instead."""
