"""The edge server: a client's request, and what has to happen until it is answered.

- ``clients`` holds the connections of clients, and the hit path: most requests never leave it. ``rules`` are a
  site's own, ``origins`` are those who are asked for what is not here.
- All other requests are an ``exchange``, run by ``errand``, answered by ``reply``: from what is ``stored``
  (``narrow`` cuts, ``coder`` compresses), or by a ``fetch``, whose ``fill`` many can read (of several at a time
  ``race`` knows the latest); ``renewal`` keeps what was confirmed.
- Large objects: ``slicer`` makes slices, ``segments`` and ``assembly`` make bodies of them.
- ``node`` has what all share: its ``sites``, its ``visitors``, each site's ``quota``; ``follower`` purges,
  ``lesson`` and ``samples`` are what is learnt in passing.
"""
