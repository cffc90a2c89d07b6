"""The tasks that Sightline knows, one file each."""
