"""Files that are whole: written beside the old one, checked when read."""
