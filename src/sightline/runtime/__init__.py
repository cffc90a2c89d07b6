"""What every part stands on and what knows nothing of vision: reading files within limits, and the limits."""
