"""Running deployments under a server: sockets, worker processes, draining, exit status."""
