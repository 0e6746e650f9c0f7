"""Choose what is worth a look, and hand it out for correction."""

import lazy_loader

# what __init__.pyi lists is imported when it is first used: settings come without the libraries of the work
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
