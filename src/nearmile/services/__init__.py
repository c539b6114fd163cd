"""The processes of a network: the rooms below, joined to sockets, clocks, disks and the bus.

- ``agent`` starts all on a machine and keeps them running (``children``), ``rollout`` brings them to changed
  documents; ``running`` reads how they are; ``runtime`` is what they do alike: configuration and map, heartbeats
  over the ``bus`` (``natsserver``), last known good in ``state``, and the log's words on ``trouble``.
- The roles: ``edge`` (with ``measures``, ``purges``, ``shipper``, ``certificates``), ``nameserver``
  (``datagrams``, ``late_maps``), ``controller`` (``atlases``), ``collector`` (``leftovers``), ``origin``.
- For commands: ``purger`` gives the order that all ``purges`` obey, ``resolver`` asks as one near a user would,
  ``geography`` installs the database.
- Certificates: ``authority`` for development, ``acme`` for everybody.
"""
