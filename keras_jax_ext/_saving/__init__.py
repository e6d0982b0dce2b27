"""Models in files: what is written, and that every array has a taker."""
