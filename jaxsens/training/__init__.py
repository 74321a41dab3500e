"""Training with optax, checkpoints with Orbax."""
