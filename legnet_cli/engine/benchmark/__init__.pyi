from .baseline import Baseline as Baseline
from .compare import Comparison as Comparison
from .config import BenchmarkConfig as BenchmarkConfig
from .report import BenchmarkResult as BenchmarkResult
from .report import as_dict as as_dict
from .roofline import Roofline as Roofline
from .run import benchmark as benchmark
from .scene import SceneRun as SceneRun
