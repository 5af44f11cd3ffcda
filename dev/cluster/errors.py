"""The one error that the command line prints without a traceback."""


class ClusterError(Exception):
    """Something that the user can act on; the message names the thing and the cure."""
