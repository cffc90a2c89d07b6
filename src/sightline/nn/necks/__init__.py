"""What joins a backbone's maps before the heads."""
