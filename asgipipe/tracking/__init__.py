"""What runs leave behind, as their capture policy says."""
