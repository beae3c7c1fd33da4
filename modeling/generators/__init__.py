"""Models that write synthetic queries, and chat models."""
