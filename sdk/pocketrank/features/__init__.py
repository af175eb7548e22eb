"""From what an app hands over and what a device knows to the columns that a model reads."""
