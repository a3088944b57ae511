"""The life of deployments: snapshots, the registry that knows them, and the deployers that provision them."""
