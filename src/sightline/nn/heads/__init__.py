"""What turns feature maps into answers."""
