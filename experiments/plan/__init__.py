"""What the presets of the experiments cost: forwards, floating-point operations, and hours on one device."""
