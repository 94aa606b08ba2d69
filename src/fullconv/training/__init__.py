"""Lightning module and data module, losses, augmentation, the training command."""
