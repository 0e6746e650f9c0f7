from .config import TrainConfig as TrainConfig
from .run import TrainResult as TrainResult
from .run import train as train
from .steps import Step as Step
from .validation import Score as Score
