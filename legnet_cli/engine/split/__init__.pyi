from .config import SplitConfig as SplitConfig
from .run import SplitProgress as SplitProgress
from .run import SplitResult as SplitResult
from .run import split as split
