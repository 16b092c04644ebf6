"""One writer and many readers at full speed, with values that betray any tearing."""
