"""What became of each name and argument, as data."""
