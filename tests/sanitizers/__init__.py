"""The compiled cores under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer."""
