"""What the image experiments share: settings and training."""
