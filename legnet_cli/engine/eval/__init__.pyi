from .compare import CompareResult as CompareResult
from .compare import compare_runs as compare_runs
from .config import CompareConfig as CompareConfig
from .config import EvalConfig as EvalConfig
from .run import EvalResult as EvalResult
from .run import evaluate as evaluate
