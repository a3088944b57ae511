"""What Python programs manage and call deployments with."""
