"""What programs do to their files: recorded, and made to fail, by a library loaded before libc."""
