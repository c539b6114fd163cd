"""Mapping: which servers serve whom. The controller makes a map, name servers answer by it.

In the order of the work:

- Clients: ``places`` finds one, ``mmdb`` and ``survey`` read all that the databases know, ``cut`` makes units of
  it, ``atlas`` holds them, ``demand`` says how much each asks for.
- How far: ``score`` expects it, ``measured`` learns it from clients and targets, ``corrections`` joins the two;
  ``downloads`` and ``classes`` do the same for large bodies.
- Who serves whom: ``allocate`` gives units to regions, ``spread`` serials to a region's servers, ``pins`` keeps
  sites where they must be; ``make`` makes a ``map`` of that, ``safety`` stops what cannot be true, ``controller``
  decides when, and ``explain`` tells people why.
- Answers: ``choose`` takes the servers, ``alike`` says for whom else an answer holds; ``plans`` (by ``planner``)
  and ``beacons`` are for resolvers whose clients are elsewhere, ``past`` for the name server that runs late.
"""
