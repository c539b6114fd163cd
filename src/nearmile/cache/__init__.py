"""The cache: what may be stored and reused (RFC 9111), under which name, and where it is kept.

- Decisions: ``policy`` (what is stored, for how long; ``directives``, ``targeted``, ``dates``), ``reuse`` (what
  may be done with it), ``key`` and ``target`` (its name), ``purge`` (when it must go), ``coding`` and ``accept``.
- Bodies: ``ranges`` cuts them, ``parts`` and ``slices`` join them.
- Memory: ``store`` keeps an ``entry`` each; ``eviction`` and ``trial`` say who leaves, ``shares`` whose turn it
  is, ``pages`` holds what is large. Under it ``tier``, on disk.
"""
