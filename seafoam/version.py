"""The version, once: packaging, the command line and /status read it from here."""

VERSION = "0.1.0"
