from .config import ReviewConfig as ReviewConfig
from .run import ReviewResult as ReviewResult
from .run import review as review
from .selection import Choice as Choice
from .selection import choose as choose
