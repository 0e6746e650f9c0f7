from .config import DiffConfig as DiffConfig
from .run import DiffResult as DiffResult
from .run import diff as diff
