from .selection import Choice as Choice
from .selection import choose as choose
