"""What was measured of a bundle, as JSON and as a page to look at."""
