from .config import ExportConfig as ExportConfig
from .parity import Parity as Parity
from .run import ExportResult as ExportResult
from .run import export as export
