"""What the experiments on images share: settings, data, training, labels."""
