"""Power cuts: a recorded run of the disk, cut anywhere, and every disk that may be left of it."""
