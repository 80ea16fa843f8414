"""Which type each tensor of a file gets, found by measuring what rounding costs the model."""
