"""The simulator: whole clusters in one process, on virtual time, under every fault it can make."""
