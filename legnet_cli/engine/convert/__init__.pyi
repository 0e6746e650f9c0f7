from .config import ConvertConfig as ConvertConfig
from .run import ConvertResult as ConvertResult
from .run import convert as convert
