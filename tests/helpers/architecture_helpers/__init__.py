"""Small models and tables of architectures, beyond those of forward_models.py."""
