"""What the tool knows to rewrite: one file for each subject."""
