"""What a file of ``legnet review`` holds: a GeoPackage that its user corrects and that is then read as labels.

==========  ==========================================================================================================
``review``  a polygon for each object to look at, in the reference system of the boxes; of scenes without one in
            pixels, y being minus the row. Columns: ``status`` (one of ``STATUSES``, ``todo`` at first), ``class``,
            ``score``, ``probability``, ``reason`` (words), ``priority`` (1 is looked at first), ``scene`` (name),
            ``id`` (text, unique), ``original`` (WKT of the polygon as it was written, so that a moved one is known)
``places``  squares that are to be looked at as a whole: ``id`` of the row of ``review`` in its middle, and ``scene``.
            Every box that the model reported in a square is a row of ``review``; what a square shows besides its own
            row has no square of its own
==========  ==========================================================================================================

A square is reviewed ground once none of the rows in it is ``todo``: the user has added what was missing there. A row
that was deleted counts as ``wrong``; its square stays. The provenance has the paths of the ``scenes``.
"""

from __future__ import annotations

REVIEW, PLACES = "review", "places"
TODO, OK, WRONG, EDITED, ADDED = STATUSES = ("todo", "ok", "wrong", "edited", "added")
