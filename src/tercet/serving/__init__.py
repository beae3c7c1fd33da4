"""Search in, and chat with, a finished run."""
