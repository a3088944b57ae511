"""What runs in the containers of a deployment besides its server.

Two revisions can have one published address when neither of them owns it: a container that does nothing else holds it,
and gives the listening socket to whichever revision asks, through a Unix socket in a folder that they share.
"""
