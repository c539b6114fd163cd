"""nearmile: an open, self-hosted, highly distributed content delivery network.

Each folder is one concern ("room"); imports run only downwards (see docs/how-it-works.md).
"""
