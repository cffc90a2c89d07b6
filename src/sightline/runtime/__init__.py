"""The lowest layer, which knows nothing of vision: devices, files, reading within limits, optional packages."""
