"""An office whose employees file claims for their expenses."""
