"""The process between a deployment's server and the rest of the machine: `python -m asgipipe.deployers.keeper`.

It owns the listening socket and gives it to the next keeper of the deployment, so that no connection is lost between
two revisions; it writes the server's output into a bounded log, passes signals on, and says how the server ended.
"""
