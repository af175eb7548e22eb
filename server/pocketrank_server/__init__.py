"""What a server keeps: the repository that devices update from."""
