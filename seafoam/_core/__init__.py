"""The compiled cores. Each module's .pxd is its interface; see docs/ for how they fit."""
