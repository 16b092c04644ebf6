"""Every order that the C11 rules allow, for the map's writer and its readers."""
