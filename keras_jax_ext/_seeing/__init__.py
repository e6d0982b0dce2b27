"""What layers say of themselves: calls, reported values, the summary."""
