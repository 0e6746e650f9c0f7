"""What can become of an object from one date to another."""

CHANGES = ("new", "gone", "moved", "turned", "resized", "same", "unseen")
NEW, GONE, MOVED, TURNED, RESIZED, SAME, UNSEEN = range(len(CHANGES))

# Okabe and Ito's colours, told apart with any colour vision; what did not change is grey
COLOURS = {
    "new": (0, 158, 115),
    "gone": (213, 94, 0),
    "moved": (230, 159, 0),
    "turned": (204, 121, 167),
    "resized": (86, 180, 233),
    "same": (150, 158, 168),
    "unseen": (70, 78, 88),
}
